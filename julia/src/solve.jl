# The forward solve: one call, with the same keywords whatever the caller asked for, so that there is one compiled method
# an algorithm.

"""What a solve left: the integrator's solution, where it stands, and its algorithm."""
struct Solved{S, P, A, Y, K}
    sol::S
    prob::P
    alg::A
    tolerances::K
    t::Float64
    y::Y
    dt::Float64
end

"""Calls the step hook after every accepted step, with the states at F.nodes of the step in F.inside."""
struct AfterStep{F}
    field::F
end
(after::AfterStep)(y, t, integrator) = given(after.field.step)
function (after::AfterStep)(integrator)
    F = after.field
    tprev, t = integrator.tprev, integrator.t
    F.times[1], F.times[2] = tprev, t
    copyto!(F.y, integrator.u)
    for (j, theta) in enumerate(F.nodes)
        column = view(F.inside, :, j)
        theta == 1.0 ? copyto!(column, integrator.u) : integrator(column, tprev + theta * (t - tprev))
    end
    answer = code(F.step)
    answer == 0 || answer == 2 || throw(ForeignError())
    settle!(integrator)
    answer == 2 && SciMLBase.terminate!(integrator)
    return nothing
end

settle!(integrator) = @static isdefined(SciMLBase, :derivative_discontinuity!) ?
    SciMLBase.derivative_discontinuity!(integrator, false) : SciMLBase.u_modified!(integrator, false)

"""
    forward(F, alg, y0, t0, t1, rtol, atol, outputs, stops; ...)

Solve from y0, (n,) at address `y0`, over (t0, t1). atol: address of n values; outputs, stops: (address, count) of times.
dense: keep what the interpolant and the adjoints need. mass: address of the (n, n) mass matrix, 0 for the identity.
first: first step, 0 for automatic; fixed: steps of that size without error control; matrix, prototype: of `odefunction`;
uniform: the smallest atol for all components, where a solver takes no more than one.
Throws ForeignError where a hook asks.
"""
function forward(
        F::Field{T}, alg, y0, t0, t1, rtol, atol, outputs, stops; dense = false, mass = 0, first = 0.0, fixed = false,
        smallest = 0.0, largest = Inf, maxiters = 100_000, matrix = true, prototype = true, uniform = false,
    ) where {T}
    n = length(F.y)
    M = mass == 0 ? I : copy(wrap(T, mass, n, n))
    return _forward(
        F, alg, odefunction(F, M; matrix, prototype), copy(wrap(T, y0, n)), (Float64(t0), Float64(t1)), Float64(rtol),
        uniform ? minimum(wrap(T, atol, n)) : copy(wrap(T, atol, n)), copy(wrap(Float64, outputs...)), copy(wrap(Float64, stops...)), dense, Float64(first), fixed,
        Float64(smallest), Float64(largest), Int(maxiters),
    )
end

function _forward(F::Field{T}, alg, f, y0, span, rtol, atol, outputs, stops, dense, first, fixed, smallest, largest,
        maxiters) where {T}
    prob = ODEProblem(f, y0, span, zeros(T, max(1, length(F.ptv))))
    after = AfterStep(F)
    integrator = init(
        prob, alg; reltol = rtol, abstol = atol, saveat = dense ? Float64[] : outputs, tstops = stops, dense,
        save_everystep = dense, save_start = true, save_end = true, dt = first == 0 ? nothing : first, adaptive = !fixed,
        dtmin = smallest, dtmax = min(largest, span[2] - span[1]), maxiters, verbose = quiet(), isoutofdomain = Outside(F),
        callback = DiscreteCallback(after, after; save_positions = (false, false)),
    )
    solve!(integrator)
    tolerances = (; reltol = rtol, abstol = atol, tstops = stops, dt = first == 0 ? nothing : first, adaptive = !fixed, maxiters)
    return Solved(integrator.sol, prob, alg, tolerances, Float64(integrator.t), copy(integrator.u), Float64(integrator.dt))
end

quiet() = OrdinaryDiffEqCore.SciMLLogging.None()

"""How many of the output times were reached; their states go into the columns of the (n, count) matrix at `address`."""
function outputs!(S::Solved, F::Field{T}, address, outputs, dense) where {T}
    times = wrap(Float64, outputs...)
    out = wrap(T, address, length(F.y), length(times))
    reached = 0
    for (i, t) in enumerate(times)
        t <= S.t || break
        if dense
            S.sol(view(out, :, i), t)
        else
            k = searchsortedfirst(S.sol.t, t)
            k <= length(S.sol.t) && S.sol.t[k] == t || break
            copyto!(view(out, :, i), S.sol.u[k])
        end
        reached = i
    end
    return reached
end

"""Number of accepted steps of a dense solution."""
steps(S::Solved) = length(S.sol.t) - 1

"""Starts of the steps and the end of the last, into the (steps + 1,) array at `address`."""
mesh!(S::Solved, address) = (copyto!(wrap(Float64, address, length(S.sol.t)), S.sol.t); nothing)

"""States at F.nodes of every step of a dense solution, into the (n, nodes, steps) array at `address`."""
function sample!(S::Solved, F::Field{T}, address) where {T}
    ts = S.sol.t
    out = wrap(T, address, length(F.y), length(F.nodes), length(ts) - 1)
    for k in 1:(length(ts) - 1), (j, theta) in enumerate(F.nodes)
        column = view(out, :, j, k)
        theta == 0.0 ? copyto!(column, S.sol.u[k]) : theta == 1.0 ? copyto!(column, S.sol.u[k + 1]) :
            S.sol(column, ts[k] + theta * (ts[k + 1] - ts[k]))
    end
    return nothing
end

"""The state reached, into the (n,) array at `address`; returns the time reached."""
ending!(S::Solved, F::Field{T}, address) where {T} = (copyto!(wrap(T, address, length(F.y)), S.y); S.t)
