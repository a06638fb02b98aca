module PyNODESensitivityExt

using PyNODE: PyNODE, Solved, begin_solve, fitting_atol, parameter_count
using PyNODE.SciMLBase: remake, solve!
using SciMLSensitivity: BacksolveAdjoint, GaussAdjoint, GaussKronrodAdjoint,
    InterpolatingAdjoint, QuadratureAdjoint, ZygoteVJP, adjoint_sensitivities

# ZygoteVJP is never asked where the field brings its own products, and every other choice would
# call the field with something else than numbers when the adjoint is built. Likewise
# autodiff = false.
const CHOICES = (; autojacvec = ZygoteVJP(), autodiff = false)
sensealg(::Val{:GaussAdjoint}, rtol, atol, checkpointing) =
    GaussAdjoint(; checkpointing, CHOICES...)
sensealg(::Val{:GaussKronrodAdjoint}, rtol, atol, checkpointing) =
    GaussKronrodAdjoint(; checkpointing, CHOICES...)
sensealg(::Val{:QuadratureAdjoint}, rtol, atol, checkpointing) =
    QuadratureAdjoint(; reltol = rtol, abstol = minimum(atol), CHOICES...)
sensealg(::Val{:InterpolatingAdjoint}, rtol, atol, checkpointing) =
    InterpolatingAdjoint(; checkpointing, CHOICES...)
sensealg(::Val{:BacksolveAdjoint}, rtol, atol, checkpointing) =
    BacksolveAdjoint(; checkpointing, CHOICES...)

"""The tolerances of the reverse state, from those of lambda, (n,)."""
reverse_atol(name, alg, atol) = fitting_atol(alg, atol)
# Its quadrature takes the tolerance, too, and only one.
reverse_atol(::Val{:QuadratureAdjoint}, alg, atol) = minimum(atol)
# The parameters belong to the state, and have other units.
reverse_atol(::Union{Val{:InterpolatingAdjoint}, Val{:BacksolveAdjoint}}, alg, atol) =
    maximum(atol)

"""
Notes where the last step of a reverse solve ended, in the place of the function that tells
whether a state is outside of the domain: SciMLSensitivity takes what a reverse solve left
wherever it ended.
"""
mutable struct Reached
    t::Float64
end
(reached::Reached)(u, p, t) = (reached.t = t; false)

function PyNODE.reverse_solve(
        S::Solved, G, ts, t1, alg, name; rtol, atol, checkpointing = false,
    )
    jump!(out, u, p, t, i) = (copyto!(out, view(G, :, i)); nothing)
    reached = Reached(t1)
    du, dtheta = adjoint_sensitivities(
        solution(S, t1), alg; t = ts, dgdu_discrete = jump!, reltol = rtol,
        abstol = reverse_atol(Val(Symbol(name)), alg, atol),
        sensealg = sensealg(Val(Symbol(name)), rtol, atol, checkpointing),
        verbose = PyNODE.quiet(), isoutofdomain = reached,
    )
    dp = parameter_count(S.field) > 0 ? Array(vec(dtheta)) : similar(S.y, 0)
    return Array(vec(du)), dp, reached.t, nothing
end

"""The forward solution over (t0, t1): the one that was kept, or one more where an event cut it
off before its end."""
function solution(S, t1)
    t1 == S.prob.tspan[2] && return S.sol
    span = (S.prob.tspan[1], Float64(t1))
    return solve!(begin_solve(remake(S.prob; tspan = span), S.alg; S.control...))
end

# No precompile workload here: Julia 1.10.8 crashed on the package image that one made.

end
