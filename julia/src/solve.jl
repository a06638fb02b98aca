# The forward solve: one call, with the same keywords whatever the caller asked for, so that there is one compiled method
# an algorithm.

"""
What a solve left: the integrator's solution, its problem and algorithm, the keywords that chose its steps, the end (t, y) of the
accepted steps and their number, the size of the next one, and how often a pair of methods changed over.
"""
struct Solved{S, P, A, Y, K}
    sol::S
    prob::P
    alg::A
    control::K
    t::Float64
    y::Y
    accepted::Int
    dt::Float64
    switches::Int
end

"""
Looks at every accepted step: counts them, and the changes of method of a pair. Calls the step hook, where there is one, with the
states at F.nodes of the step in F.inside. noted: what `note!` said of the last one; age: of the Jacobian, in steps, of `jacobians` made.
"""
mutable struct AfterStep{F}
    const field::F
    noted::Int
    accepted::Int
    running::Int
    switches::Int
    age::Int
    jacobians::Int
end
AfterStep(F::Field) = AfterStep(F, 0, 0, 0, 0, 0, 0)

# Steps that a Jacobian serves Newton's iteration. SciML keeps one for as long as the iteration converges, ever more slowly: on
# Robertson's reaction FBDF made 4 and called f 1127 times, with this limit 9 and 739 (benchmarks/julia.py). CVODE's is 50, too.
const OLDEST = 50

function (after::AfterStep)(y, t, integrator)
    after.noted, now = note!(integrator), running(integrator)
    after.accepted += 1
    after.switches += after.running != 0 && now != after.running
    after.running = now
    made = made_jacobians(integrator)
    after.age = made == after.jacobians ? after.age + 1 : 0
    after.jacobians = made
    after.age > 0 && after.age % OLDEST == 0 && outdate!(integrator)
    return given(after.field.step)
end
function (after::AfterStep)(integrator)
    F = after.field
    F.times[1], F.times[2] = clock(F, integrator.tprev), clock(F, integrator.t)
    # The step as the other side sees it, whose time may be coarser.
    a, b = inner(F, F.times[1]), inner(F, F.times[2])
    copyto!(F.y, integrator.u)
    for (j, theta) in enumerate(F.nodes)
        state, s = view(F.inside, :, j), theta == 1.0 ? b : a + theta * (b - a)
        s == integrator.t ? copyto!(state, integrator.u) : between!(state, integrator, s)
    end
    answer = ask(F, F.step)
    settle!(integrator)
    answer == 2 && SciMLBase.terminate!(integrator)
    return nothing
end

# What integrators hold, those of OrdinaryDiffEq here, those of other packages in extensions: something to know an accepted
# step by; the end of the last one, for where a hook has stopped an attempt, u is in the making; which method of a pair runs.
note!(integrator) = integrator.iter
reached(integrator, noted) = integrator.iter == noted ? integrator.u : integrator.uprev
running(integrator) = hasfield(typeof(integrator.cache), :current) ? integrator.cache.current : 1
proposed(integrator) = Float64(integrator.dt)
between!(state, integrator, t) = integrator(state, t)
made_jacobians(integrator) = integrator.stats.njacs
"""Have Newton's iteration make its Jacobian anew at the next step."""
function outdate!(integrator)
    cache = integrator.cache
    hasfield(typeof(cache), :nlsolver) && hasfield(typeof(cache.nlsolver), :cache) || return
    newton = cache.nlsolver.cache
    hasfield(typeof(newton), :firstcall) && (newton.firstcall = true)
    return
end
tally!(integrator) = nothing  # bring the counts of a solve that a hook has stopped up to date
"""Keywords of `init` that not every solver knows: steps of one size, and a domain to stay in."""
special(alg, F, fixed) = (; adaptive = !fixed, isoutofdomain = Outside(F))

settle!(integrator) = @static isdefined(SciMLBase, :derivative_discontinuity!) ?
    SciMLBase.derivative_discontinuity!(integrator, false) : SciMLBase.u_modified!(integrator, false)

"""
    begin_solve(prob, alg; keywords...)

`init`, with the second stage of Kvaerno's methods in its place: SciML asks for it at t + γh instead of t + 2γh, the sum of its row
(OrdinaryDiffEqSDIRK 2.0 to 2.9), and of the orders 3, 4 and 5 are left 1, 1 and 3 where f depends on t.
"""
function begin_solve(prob, alg; keywords...)
    integrator = init(prob, alg; keywords...)
    hasfield(typeof(integrator), :cache) && place_stages!(alg, integrator.cache)
    return integrator
end
place_stages!(alg, cache) = nothing
place_stages!(::Union{Kvaerno3, Kvaerno4, Kvaerno5}, cache) = (cache.tab.c[2] = sum(view(cache.tab.Ai, 2, :)); nothing)
place_stages!(pair::OrdinaryDiffEqCore.CompositeAlgorithm, cache) = foreach(place_stages!, pair.algs, cache.caches)

"""
    forward(F, alg, y0, t0, t1, rtol, atol, outputs, stops; ...)

Solve from y0, (n,) at address `y0`, over (t0, t1). atol: address of n values; outputs, stops: (address, count) of times.
dense: keep what the interpolant and the adjoints need. mass: address of the (n, n) mass matrix, 0 for the identity.
first: first step, 0 for automatic; fixed: steps of that size without error control; matrix: of `odefunction`;
uniform: the smallest atol for all components, where a solver takes no more than one.
Where a hook stops it in the middle of a step, the steps before are kept; before the first one ForeignError is thrown.
"""
function forward(
        F::Field{T}, alg, y0, t0, t1, rtol, atol, outputs, stops; dense = false, mass = 0, first = 0.0, fixed = false,
        smallest = 0.0, largest = Inf, maxiters = 100_000, matrix = true, uniform = false,
    ) where {T}
    n = length(F.y)
    M = mass == 0 ? I : there(F, wrap(T, mass, n, n))
    return _forward(
        F, alg, odefunction(F, M; matrix), there(F, wrap(T, y0, n)), (Float64(t0), Float64(t1)), Float64(rtol),
        uniform ? minimum(wrap(T, atol, n)) : there(F, wrap(T, atol, n)), copy(wrap(Float64, outputs...)),
        copy(wrap(Float64, stops...)), dense, Float64(first), fixed, Float64(smallest), Float64(largest), Int(maxiters),
    )
end

function _forward(F::Field, alg, f, y0, span, rtol, atol, outputs, stops, dense, first, fixed, smallest, largest,
        maxiters)
    prob = ODEProblem(f, y0, span, blank(F, max(1, length(F.ptv[]))))
    after = AfterStep(F)
    control = (;
        reltol = rtol, abstol = atol, tstops = stops, dt = first == 0 ? nothing : first, dtmin = smallest,
        dtmax = min(largest, span[2] - span[1]), maxiters, verbose = quiet(), special(alg, F, fixed)...,
    )
    integrator = begin_solve(
        prob, alg; saveat = dense ? Float64[] : outputs, dense, save_everystep = dense, save_start = true, save_end = true,
        callback = DiscreteCallback(after, after; save_positions = (false, false)), control...,
    )
    try
        solve!(integrator)
    catch error
        error isa ForeignError || rethrow()
        tally!(integrator)
    end
    sol = integrator.sol
    t, y = dense ? (sol.t[end], sol.u[end]) : (integrator.t, reached(integrator, after.noted))
    return Solved(sol, prob, alg, control, Float64(t), copy(y), after.accepted, proposed(integrator), after.switches)
end

"""
    extend!(S, F, np, ptv)

From now on there are np parameters, and their products lie at the address `ptv`: on the way back more turned out to be used.
"""
function extend!(S::Solved, F::Field{T}, np, ptv) where {T}
    F.ptv[] = own(F.place, T, ptv, Int(np))
    for prob in (S.prob, S.sol.prob)
        fill!(resize!(prob.p, max(1, Int(np))), 0)
    end
    return nothing
end

quiet() = OrdinaryDiffEqCore.SciMLLogging.None()

"""The i-th column of the host matrix of n rows at `address`."""
column(::Type{T}, address, n, i) where {T} = wrap(T, UInt(address) + (i - 1) * n * sizeof(T), n)

"""How many of the output times were reached; their states go into the columns of the (n, count) matrix at `address`."""
function outputs!(S::Solved, F::Field{T}, address, outputs, dense) where {T}
    n = length(F.y)
    for (i, t) in enumerate(wrap(Float64, outputs...))
        t <= S.t || return i - 1
        if dense
            S.sol(F.y, t)
            copyto!(column(T, address, n, i), F.y)
        else
            k = searchsortedfirst(S.sol.t, t)
            k <= length(S.sol.t) && S.sol.t[k] == t || return i - 1
            copyto!(column(T, address, n, i), S.sol.u[k])
        end
    end
    return Int(outputs[2])
end

"""Starts of the accepted steps of a dense solution and the end of the last, in the other side's time, which may be coarser."""
mesh(S::Solved, F::Field) = unique!(clock.(Ref(F), S.sol.t))

"""Their number."""
steps(S::Solved, F::Field) = length(mesh(S, F)) - 1

"""The mesh into the (steps + 1,) array at `address`."""
mesh!(S::Solved, F::Field, address) = (ts = mesh(S, F); copyto!(wrap(Float64, address, length(ts)), ts); nothing)

"""The state at the solver's time s of a dense solution: what was kept at the ends of steps, and beyond the last of them."""
function state!(y, S::Solved, s)
    ts = S.sol.t
    k = min(searchsortedfirst(ts, s), length(ts))
    return s >= ts[k] ? copyto!(y, S.sol.u[k]) : S.sol(y, s)
end

"""States at F.nodes of every step of a dense solution, into the (n, nodes, steps) array at `address`."""
function sample!(S::Solved, F::Field{T}, address) where {T}
    ts, entries = inner.(Ref(F), mesh(S, F)), length(F.inside)
    for k in 1:(length(ts) - 1)
        for (j, theta) in enumerate(F.nodes)
            state!(view(F.inside, :, j), S, theta == 1.0 ? ts[k + 1] : ts[k] + theta * (ts[k + 1] - ts[k]))
        end
        copyto!(column(T, address, entries, k), F.inside)
    end
    return nothing
end

"""The state reached, into the (n,) array at `address`; returns the time reached."""
ending!(S::Solved, F::Field{T}, address) where {T} = (copyto!(wrap(T, address, length(F.y)), S.y); S.t)
