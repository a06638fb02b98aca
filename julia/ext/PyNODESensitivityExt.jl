module PyNODESensitivityExt

using PyNODE: Ended, PyNODE, Solved, begin_solve, blank, fitting_atol, parameter_count
using PyNODE.SciMLBase: SciMLBase, remake, solve!
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
A reverse solver that has to come to the end: `Ended` is thrown where it does not.
SciMLSensitivity would go on with what was left, and QuadratureAdjoint would integrate, in up to
ten million evaluations, over times that the reverse solve has never seen.
"""
struct ToTheEnd{A} <: SciMLBase.AbstractODEAlgorithm
    alg::A
end
SciMLBase.forwarddiffs_model_time(whole::ToTheEnd) = SciMLBase.forwarddiffs_model_time(whole.alg)

function SciMLBase.__solve(prob::SciMLBase.AbstractODEProblem, whole::ToTheEnd; keywords...)
    # Not `init`, which would join the problem's callbacks to the keywords' callbacks once more.
    integrator = SciMLBase.__init(prob, whole.alg; keywords...)
    sol = solve!(integrator)
    SciMLBase.successful_retcode(sol) || throw(Ended(integrator.t))
    return sol
end

# Their quadrature goes on until its error is small enough.
const ADAPTIVE = (:GaussKronrodAdjoint, :QuadratureAdjoint)

"""
What the cotangents are divided by. The quadrature of GaussKronrodAdjoint has the absolute tolerance
1e-7: below the rounding of large cotangents, and above small ones.
"""
unit(name, G) = one(eltype(G))
unit(::Val{:GaussKronrodAdjoint}, G) = ldexp(one(eltype(G)), exponent(maximum(abs, G)))

function PyNODE.reverse_solve(
        S::Solved, G, ts, t1, alg, name; rtol, atol, checkpointing = false,
    )
    key = Symbol(name)
    scale = unit(Val(key), G)
    jump!(out, u, p, t, i) = (out .= view(G, :, i) ./ scale; nothing)
    S.field.watch.strict = key in ADAPTIVE
    local du, dtheta
    try
        du, dtheta = adjoint_sensitivities(
            solution(S, t1), ToTheEnd(alg); t = ts, dgdu_discrete = jump!, reltol = rtol,
            abstol = reverse_atol(Val(key), alg, atol ./ scale),
            sensealg = sensealg(Val(key), rtol, atol ./ scale, checkpointing),
            verbose = PyNODE.quiet(),
        )
    catch error
        error isa Ended || rethrow()
        return zero(S.y), blank(S.field, parameter_count(S.field)), error.t, nothing
    end
    dp = parameter_count(S.field) > 0 ? scale .* Array(vec(dtheta)) : similar(S.y, 0)
    return scale .* Array(vec(du)), dp, S.prob.tspan[1], nothing
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
