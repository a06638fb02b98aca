# What PyNODE reads of SciML's packages beyond their documented interface, in one place. The
# tests in test/compat.jl notice when a package changes it.

# What integrators hold, those of OrdinaryDiffEq here, those of other packages in extensions.

"""Something to know an accepted step by."""
note!(integrator) = integrator.iter

"""The end of the last accepted step: where a hook has stopped an attempt, u is in the making."""
reached(integrator, noted) = integrator.iter == noted ? integrator.u : integrator.uprev

"""Which method of a pair runs."""
function running(integrator)
    cache = integrator.cache
    return hasfield(typeof(cache), :current) ? cache.current : 1
end

"""The size of the next step."""
proposed(integrator) = Float64(integrator.dt)

"""The state inside the last step."""
between!(state, integrator, t) = integrator(state, t)

"""How many Jacobians were made."""
made_jacobians(integrator) = integrator.stats.njacs

"""Have Newton's iteration make its Jacobian anew at the next step."""
function outdate!(integrator)
    newton = newton_cache(integrator.cache)
    newton === nothing || (newton.firstcall = true)
    return nothing
end

"""The cache of Newton's iteration, or nothing where a method has none."""
function newton_cache(cache)
    hasfield(typeof(cache), :nlsolver) || return nothing
    hasfield(typeof(cache.nlsolver), :cache) || return nothing
    newton = cache.nlsolver.cache
    return hasfield(typeof(newton), :firstcall) ? newton : nothing
end

"""Bring the counts of a solve that a hook has stopped up to date."""
tally!(integrator) = nothing

# How many arguments the functions of a problem take. SciML would count them in Julia's tables of
# methods, in each solve, for some 15 microseconds.
SciMLBase.numargs(::Union{Field, Jac, TimeGradient}) = (4,)
SciMLBase.numargs(::Union{VJP, ParameterVJP, JVP}) = (5,)

"""Keywords of `init` that not every solver knows: steps of one size, a domain to stay in."""
special(alg, F, is_fixed) = (; adaptive = !is_fixed, isoutofdomain = Outside(F))

"""The tolerances (n,) as a solver takes them: some take one for all components."""
fitting_atol(alg, atol) = atol

"""How many linear systems were solved."""
solves(alg, stats) = stats.nsolve

"""A callback changed nothing: the integrator goes on as if it had not been called."""
function keep_steady!(integrator)
    @static if isdefined(SciMLBase, :derivative_discontinuity!)
        return SciMLBase.derivative_discontinuity!(integrator, false)
    else
        return SciMLBase.u_modified!(integrator, false)
    end
end

"""No messages: the return code says what happened."""
quiet() = OrdinaryDiffEqCore.SciMLLogging.None()

"""
Put the second stage of Kvaerno's methods in its place. SciML asks for it at t + γh instead of
t + 2γh, the sum of its row (OrdinaryDiffEqSDIRK 2.0 to 2.9), and of the orders 3, 4 and 5 are
left 1, 1 and 3 where f depends on t.
"""
place_stages!(alg, cache) = nothing
function place_stages!(::Union{Kvaerno3, Kvaerno4, Kvaerno5}, cache)
    cache.tab.c[2] = sum(view(cache.tab.Ai, 2, :))
    return nothing
end
place_stages!(pair::OrdinaryDiffEqCore.CompositeAlgorithm, cache) =
    foreach(place_stages!, pair.algs, cache.caches)
