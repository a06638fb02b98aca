# The forward solve: one call, with the same keywords whatever the caller asked for, so that
# there is one compiled method an algorithm.

"""
What a solve left: the field, the integrator's solution, its problem and algorithm, the keywords
that chose its steps, the end (t, y) of the accepted steps and their number, the size of the next
one, and how often a pair of methods changed over.
"""
struct Solved{F, S, P, A, Y, K}
    field::F
    sol::S
    prob::P
    alg::A
    control::K
    t::Float64
    y::Y
    accepted::Int
    next_step::Float64
    switches::Int
end

"""
What chooses the steps of a solve from y0 over span. atol: a number, or one a component; outputs,
stops: times; dense: keep what the interpolant and the adjoints need; first_step: 0 for automatic;
is_fixed: steps of that size without error control; smallest, largest: bounds of the steps.
"""
struct SolveOptions{T, A}
    span::Tuple{Float64, Float64}
    rtol::Float64
    atol::A
    outputs::Vector{Float64}
    stops::Vector{Float64}
    dense::Bool
    first_step::Float64
    is_fixed::Bool
    smallest::Float64
    largest::Float64
    maxiters::Int
    y0::T
end

"""
Looks at every accepted step: counts them, and the changes of method of a pair. Calls the step
hook, where there is one, with the states at the thetas of the step. noted: what `note!` said of
the last one; age: of the Jacobian, in steps, of `jacobians` made.
"""
mutable struct StepObserver{F}
    const field::F
    noted::Int
    accepted::Int
    running::Int
    switches::Int
    age::Int
    jacobians::Int
end
StepObserver(F::Field) = StepObserver(F, 0, 0, 0, 0, 0, 0)

# Steps that a Jacobian serves Newton's iteration. SciML keeps one for as long as the iteration
# converges, ever more slowly: on Robertson's reaction FBDF made 4 and called f 1127 times, with
# this limit 9 and 739 (benchmarks/julia.py). CVODE's is 50, too.
const OLDEST = 50

"""Count an accepted step; whether the step hook wants to see it."""
function is_watched(observer::StepObserver, integrator)
    observer.noted, now = note!(integrator), running(integrator)
    observer.accepted += 1
    observer.switches += observer.running != 0 && now != observer.running
    observer.running = now
    made = made_jacobians(integrator)
    observer.age = made == observer.jacobians ? observer.age + 1 : 0
    observer.jacobians = made
    observer.age > 0 && observer.age % OLDEST == 0 && outdate!(integrator)
    return is_given(observer.field.step)
end

"""Show an accepted step to the step hook."""
function show_step!(observer::StepObserver, integrator)
    F = observer.field
    buffers = F.buffers
    buffers.times[1], buffers.times[2] = clock(F, integrator.tprev), clock(F, integrator.t)
    # The step as the other side sees it, whose time may be coarser.
    a, b = inner(F, buffers.times[1]), inner(F, buffers.times[2])
    copyto!(buffers.y, integrator.u)
    for (j, theta) in enumerate(buffers.thetas)
        state, s = view(buffers.inside, :, j), theta == 1.0 ? b : a + theta * (b - a)
        s == integrator.t ? copyto!(state, integrator.u) : between!(state, integrator, s)
    end
    answer = ask(F, F.step)
    keep_steady!(integrator)
    answer == 2 && SciMLBase.terminate!(integrator)
    return nothing
end

"""The callback that observes the steps of a solve."""
function observing(observer::StepObserver)
    condition = (y, t, integrator) -> is_watched(observer, integrator)
    affect! = integrator -> show_step!(observer, integrator)
    return DiscreteCallback(condition, affect!; save_positions = (false, false))
end

"""
    begin_solve(prob, alg; keywords...)

`init`, with the second stage of Kvaerno's methods in its place (compat.jl).
"""
function begin_solve(prob, alg; keywords...)
    integrator = init(prob, alg; keywords...)
    hasfield(typeof(integrator), :cache) && place_stages!(alg, integrator.cache)
    return integrator
end

"""
    forward(F, alg, f, options)

Solve. f: of `odefunction`. Where a hook or a limit stops the solve in the middle of a step, the
steps before are kept.
"""
function forward(F::Field, alg, f, options::SolveOptions)
    dense, span = options.dense, options.span
    prob = ODEProblem(f, options.y0, span, blank(F, max(1, parameter_count(F))))
    observer = StepObserver(F)
    control = (;
        reltol = options.rtol, abstol = options.atol, tstops = options.stops,
        dt = options.first_step == 0 ? nothing : options.first_step, dtmin = options.smallest,
        dtmax = min(options.largest, span[2] - span[1]), maxiters = options.maxiters,
        verbose = quiet(), special(alg, F, options.is_fixed)...,
    )
    integrator = begin_solve(
        prob, alg; saveat = dense ? Float64[] : options.outputs, dense, save_everystep = dense,
        save_start = true, save_end = true, callback = observing(observer), control...,
    )
    try
        solve!(integrator)
    catch error
        error isa Stopped || rethrow()
        tally!(integrator)
    end
    sol = integrator.sol
    t, y = dense ? (sol.t[end], sol.u[end]) :
        (integrator.t, reached(integrator, observer.noted))
    return Solved(
        F, sol, prob, alg, control, Float64(t), copy(y), observer.accepted,
        proposed(integrator), observer.switches,
    )
end

"""
    extend!(S, np, ptv)

From now on there are np parameters, and their products lie at the address `ptv`: on the way back
more turned out to be used.
"""
function extend!(S::Solved, np, ptv)
    F = S.field
    F.buffers.ptv = wrapped(F.place, eltype(F.buffers.y), Ptr{Cvoid}(UInt(ptv)), Int(np))
    for prob in (S.prob, S.sol.prob)
        fill!(resize!(prob.p, max(1, Int(np))), 0)
    end
    return nothing
end

"""Column k of a matrix of the host, (n, ...), becomes the state y, which may lie on a device."""
put_column!(states, k, y) = copyto!(states, (k - 1) * length(y) + 1, y, 1, length(y))

"""The states at those of the output times that were reached, into the columns of `states`."""
function outputs!(states::AbstractMatrix, S::Solved, options::SolveOptions)
    y = similar(S.y)
    for (i, t) in enumerate(options.outputs)
        t <= S.t || return i - 1
        if options.dense
            put_column!(states, i, state!(y, S, t))
        else
            k = searchsortedfirst(S.sol.t, t)
            k <= length(S.sol.t) && S.sol.t[k] == t || return i - 1
            put_column!(states, i, S.sol.u[k])
        end
    end
    return length(options.outputs)
end

"""The starts of the accepted steps of a dense solution and the end of the last, in the other
side's time, which may be coarser."""
mesh(S::Solved) = unique!(clock.(Ref(S.field), S.sol.t))

"""The state at the solver's time s of a dense solution: what was kept at the ends of steps, and
beyond the last of them."""
function state!(y, S::Solved, s)
    ts = S.sol.t
    k = min(searchsortedfirst(ts, s), length(ts))
    s >= ts[k] ? copyto!(y, S.sol.u[k]) : S.sol(y, s)
    return y
end

"""States at the thetas of every step of a dense solution: (n, thetas, steps)."""
function samples!(states::AbstractArray, S::Solved, thetas)
    ts = inner.(Ref(S.field), mesh(S))
    y = similar(S.y)
    for k in 1:(length(ts) - 1), (j, theta) in enumerate(thetas)
        s = theta == 1.0 ? ts[k + 1] : ts[k] + theta * (ts[k + 1] - ts[k])
        put_column!(states, (k - 1) * length(thetas) + j, state!(y, S, s))
    end
    return nothing
end
