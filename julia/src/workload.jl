# What a first solve would otherwise compile, in seconds: the type of a field does not depend on
# the model, so that one small problem compiles all of it, and the package image keeps it.

"""A stiff linear system y' = p (A y + t), over memory as the other side would own it."""
module Example

const A = [-1.0 2.0 0.0; 0.0 -50.0 1.0; 1.0 0.0 -3.0]
const p = [1.0]
const y, dy, v, jtv, jv, dT = (zeros(3) for _ in 1:6)
const t, times, ptv, J = zeros(1), zeros(3), zeros(1), zeros(9)
const thetas, inside = [0.0, 0.5, 1.0], zeros(3, 3)
const places = collect(1:9)
const inputs = Ptr{Float64}[]

f() = (dy .= p[1] .* (A * y .+ t[1]); Cint(0))
vjp() = (jtv .= p[1] .* (A' * v); Cint(0))
vjp_p() = (ptv[1] = sum(v .* (A * y .+ t[1])); Cint(0))
jvp() = (jv .= p[1] .* (A * v); Cint(0))
jac() = (J .= p[1] .* vec(A); Cint(0))
tgrad() = (dT .= p[1]; Cint(0))
step() = Cint(0)
domain() = Cint(0)

"""The sum of a row of A, or of its transpose, times y."""
row(i, y) = sum(A[i, j] * unsafe_load(y, j) for j in 1:3)
column(i, v) = sum(A[j, i] * unsafe_load(v, j) for j in 1:3)

const Real = Ptr{Float64}
const Reals = Ptr{Cvoid}
function native_f(t::Cdouble, y::Real, v::Real, inputs::Reals, out::Real, work::Real)::Cvoid
    foreach(i -> unsafe_store!(out, p[1] * (row(i, y) + t), i), 1:3)
end
function native_vjp(t::Cdouble, y::Real, v::Real, inputs::Reals, out::Real, work::Real)::Cvoid
    foreach(i -> unsafe_store!(out, p[1] * column(i, v), i), 1:3)
end
function native_vjp_p(t::Cdouble, y::Real, v::Real, inputs::Reals, out::Real, work::Real)::Cvoid
    unsafe_store!(out, sum(unsafe_load(v, i) * (row(i, y) + t) for i in 1:3), 1)
    return nothing
end
function native_jvp(t::Cdouble, y::Real, v::Real, inputs::Reals, out::Real, work::Real)::Cvoid
    foreach(i -> unsafe_store!(out, p[1] * row(i, v), i), 1:3)
end
function native_jac(t::Cdouble, y::Real, v::Real, inputs::Reals, out::Real, work::Real)::Cvoid
    foreach(i -> unsafe_store!(out, p[1] * A[i], i), 1:9)
end
function native_jac_time(t::Cdouble, y::Real, v::Real, inputs::Reals, out::Real, work::Real)::Cvoid
    native_jac(t, y, v, inputs, out, work)
    foreach(i -> unsafe_store!(out, p[1], 9 + i), 1:3)
end

"""What a Request says of hooks and their buffers; only while they are in use."""
hooks(stepping) = (;
    y = pointer(y), t = pointer(t), dy = pointer(dy), v = pointer(v), jtv = pointer(jtv),
    ptv = pointer(ptv), jv = pointer(jv), J = pointer(J), dT = pointer(dT),
    times = pointer(times), thetas = pointer(thetas), inside = pointer(inside), nodes = 3,
    f = @cfunction(f, Cint, ()), vjp = @cfunction(vjp, Cint, ()),
    vjp_p = @cfunction(vjp_p, Cint, ()), jvp = @cfunction(jvp, Cint, ()),
    jac = @cfunction(jac, Cint, ()), tgrad = @cfunction(tgrad, Cint, ()),
    domain = @cfunction(domain, Cint, ()),
    step = stepping ? @cfunction(step, Cint, ()) : C_NULL,
)

"""The same of native functions."""
function native_functions()
    return (;
        native_f = @cfunction(native_f, Cvoid, (Cdouble, Real, Real, Reals, Real, Real)),
        native_vjp = @cfunction(native_vjp, Cvoid, (Cdouble, Real, Real, Reals, Real, Real)),
        native_vjp_p = @cfunction(native_vjp_p, Cvoid, (Cdouble, Real, Real, Reals, Real, Real)),
        native_jvp = @cfunction(native_jvp, Cvoid, (Cdouble, Real, Real, Reals, Real, Real)),
        native_jac = @cfunction(native_jac, Cvoid, (Cdouble, Real, Real, Reals, Real, Real)),
        native_jac_time = @cfunction(
            native_jac_time, Cvoid, (Cdouble, Real, Real, Reals, Real, Real),
        ),
        places = pointer(places), entries = 9,
    )
end

end

# An explicit method gets no Jacobian, and so a problem of another type.
const WITHOUT_JACOBIAN =
    (; native_jac = C_NULL, native_jac_time = C_NULL, places = C_NULL, entries = 0)

const NO_OUTCOME = Outcome((zero(T) for T in fieldtypes(Outcome))...)

"""A Request or GradientRequest with these fields; the others are zero."""
function filled(::Type{R}; given...) where {R}
    value(name, T) = haskey(given, name) ? convert(T, given[name]) : nothing_of(T)
    return R((value(name, T) for (name, T) in zip(fieldnames(R), fieldtypes(R)))...)
end
nothing_of(::Type{T}) where {T} = zero(T)
nothing_of(::Type{Outcome}) = NO_OUTCOME
nothing_of(::Type{Ptr{T}}) where {T} = Ptr{T}(C_NULL)
nothing_of(::Type{NTuple{3, Ptr{Cvoid}}}) = (C_NULL, C_NULL, C_NULL)

"""
Memory of a solve of the example, and the Request over it. native: by native functions, else by
hooks; changed: further fields of the Request.
"""
struct Posed
    y0::Vector{Float64}
    atol::Vector{Float64}
    outputs::Vector{Float64}
    states::Matrix{Float64}
    message::Vector{UInt8}
    requests::Vector{Request}
end

function posed(number; rtol = 1e-6, native = false, stepping = false, changed...)
    y0, atol, message = [1.0, 0.5, -0.2], fill(rtol / 100, 3), zeros(UInt8, 1000)
    outputs, states = [0.0, 0.4, 2.0], zeros(3, 3)
    places = native ? Example.native_functions() : Example.hooks(stepping)
    fields = (;
        version = VERSION, bits = 64, n = 3, np = 1, direction = 1.0, places...,
        algorithm = number, start = pointer(y0), t1 = 2.0, rtol, atol = pointer(atol),
        outputs = pointer(outputs), output_count = 3, largest = Inf, maxiters = 100_000,
        matrix = true, most = typemax(Int), seconds = Inf, states = pointer(states),
        message = pointer(message), room = length(message),
    )
    request = filled(Request; fields..., changed...)
    return Posed(y0, atol, outputs, states, message, [request])
end

"""
Solve the example by the algorithm of this name, and its gradient: states, cotangents of y0 and
of p. choose_algorithm: makes the algorithm of a name; options: of `posed`.
"""
function example(
        name; rtol = 1e-6, reverse_with = nothing, adjoint = nothing,
        choose_algorithm = algorithm, options...,
    )
    dense = reverse_with !== nothing
    solve = posed(choose(choose_algorithm(name)); rtol, dense, options...)
    dy0, dp = zeros(3), zeros(1)
    GC.@preserve solve begin
        answer = serve_forward(pointer(solve.requests))
        answer == SERVED || throw(unserved(answer, solve.message))
        if dense
            kept = solve.requests[1].outcome.kept
            sample_all(kept)
            back = choose(choose_algorithm(reverse_with))
            pull!(dy0, dp, solve, kept, back, adjoint, rtol)
            release(kept)
        end
    end
    return solve.states, dy0, dp
end

"""The mesh and the samples of a kept solve of the example."""
function sample_all(kept)
    count = step_count(kept)
    mesh, samples = zeros(count + 1), zeros(3, 3, count)
    GC.@preserve mesh samples begin
        sample(kept, pointer(Example.thetas), 3, pointer(mesh), Ptr{Cvoid}(pointer(samples)))
    end
    return mesh, samples
end

"""The gradient of the example's loss, by an adjoint of this name or the native one."""
function pull!(dy0, dp, solve, kept, back, adjoint, rtol)
    G = [ones(3) [1.0, -1.0, 0.5]]
    GC.@preserve dy0 dp solve G adjoint begin
        gradients = [filled(
            GradientRequest; version = VERSION, kept, algorithm = back,
            adjoint = adjoint === nothing ? C_NULL : pointer(adjoint),
            adjoint_length = adjoint === nothing ? 0 : ncodeunits(adjoint),
            cotangents = pointer(G), times = pointer(solve.outputs, 2), count = 2, t1 = 2.0,
            rtol, atol = rtol / 100, dy0 = pointer(dy0), dp = pointer(dp), seconds = Inf,
            message = pointer(solve.message), room = length(solve.message),
        )]
        answer = serve_gradient(pointer(gradients))
    end
    answer == SERVED || throw(unserved(answer, solve.message))
    return nothing
end

"""The error of an entry that served nothing."""
unserved(answer, message) = answer == STOPPED ? Stopped() :
    ErrorException(unsafe_string(pointer(message)))

"""
A batch of rows, each the example by the algorithm of this name, and the gradients of all: states
(3, 3) of each row, and cotangents of p.
"""
function example_rows(name, count; reverse_with = "Rodas5P", rtol = 1e-6)
    solves = [posed(choose(name); rtol, native = true, dense = true) for _ in 1:count]
    stop, dy0, dp, G = [0], zeros(3, count), zeros(count), [ones(3) [1.0, -1.0, 0.5]]
    back = choose(reverse_with)
    GC.@preserve solves stop dy0 dp G begin
        rows = [solve.requests[1] for solve in solves]
        serve_batch(serve_forward_rows, rows, stop)
        kept = [row.outcome.kept for row in rows]
        pulls = [filled(
            GradientRequest; version = VERSION, kept = kept[i], algorithm = back,
            cotangents = pointer(G), times = pointer(solves[i].outputs, 2), count = 2, t1 = 2.0,
            rtol, atol = 1e-5 * rtol, scaled = 1, dy0 = pointer(dy0, 3i - 2), dp = pointer(dp, i),
            seconds = Inf, stop = pointer(stop),
        ) for i in 1:count]
        serve_batch(serve_gradient_rows, pulls, stop)
        GC.@preserve kept release_rows(pointer(kept), Int64(count))
    end
    return [solve.states for solve in solves], dp
end

"""Have all rows served; throws where one of them was not."""
function serve_batch(serve, rows, stop)
    answers, message = fill(-1, length(rows)), zeros(UInt8, 1000)
    GC.@preserve rows stop answers message begin
        batches = [filled(
            RowsRequest; version = VERSION, rows = Ptr{Cvoid}(pointer(rows)),
            count = length(rows), threads = Threads.nthreads(), seconds = Inf,
            stop = pointer(stop), answers = pointer(answers), message = pointer(message),
            room = length(message),
        )]
        answer = serve(pointer(batches))
    end
    answer == SERVED && all(==(SERVED), answers) || throw(unserved(answer, message))
    return nothing
end

@setup_workload begin
    @compile_workload begin
        connect(0, 0, 0, 0)
        for name in ("FBDF", "QNDF", "Rodas5P")
            example(name; native = true, reverse_with = "Rodas5P")
        end
        example("Tsit5"; native = true, reverse_with = "Tsit5", WITHOUT_JACOBIAN...)
        example("FBDF"; stepping = true)
        example("KenCarp4"; native = true)
        example_rows("QNDF", 2)
        empty!(CHOSEN.values)
    end
end
