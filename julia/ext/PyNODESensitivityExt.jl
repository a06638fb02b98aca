module PyNODESensitivityExt

using PyNODE: PyNODE, Field, Solved, begin_solve, there, wrap
using PyNODE.SciMLBase: remake, solve!
using SciMLSensitivity: BacksolveAdjoint, GaussAdjoint, GaussKronrodAdjoint, InterpolatingAdjoint, QuadratureAdjoint, ZygoteVJP,
    adjoint_sensitivities

# ZygoteVJP is never asked where the field brings its own products, and every other choice would call the field with
# something else than numbers when the adjoint is built. Likewise autodiff = false.
const CHOICES = (; autojacvec = ZygoteVJP(), autodiff = false)
const ADJOINTS = Dict{String, Function}(
    "GaussAdjoint" => (rtol, atol, checkpointing) -> GaussAdjoint(; checkpointing, CHOICES...),
    "GaussKronrodAdjoint" => (rtol, atol, checkpointing) -> GaussKronrodAdjoint(; checkpointing, CHOICES...),
    "QuadratureAdjoint" => (rtol, atol, checkpointing) -> QuadratureAdjoint(; reltol = rtol, abstol = atol, CHOICES...),
    "InterpolatingAdjoint" => (rtol, atol, checkpointing) -> InterpolatingAdjoint(; checkpointing, CHOICES...),
    "BacksolveAdjoint" => (rtol, atol, checkpointing) -> BacksolveAdjoint(; checkpointing, CHOICES...),
)

"""
Notes where the last step of a reverse solve ended, in the place of the function that tells whether a state is outside of the
domain: SciMLSensitivity takes what a reverse solve left wherever it ended.
"""
mutable struct Reached
    t::Float64
end
(reached::Reached)(u, p, t) = (reached.t = t; false)

function PyNODE.reverse(S::Solved, F::Field{T}, dy0, dp, cotangents, times, t1, alg, name::String; rtol, atol,
        checkpointing = false) where {T}
    n, np = length(F.y), length(F.ptv[])
    ts = copy(wrap(Float64, times...))
    G = there(F, wrap(T, cotangents, n, length(ts)))
    sol = solution(S, t1)
    jump!(out, u, p, t, i) = (copyto!(out, view(G, :, i)); nothing)
    reached = Reached(t1)
    du, dtheta = adjoint_sensitivities(
        sol, alg; t = ts, dgdu_discrete = jump!, reltol = Float64(rtol), abstol = Float64(atol),
        sensealg = ADJOINTS[name](Float64(rtol), Float64(atol), checkpointing), verbose = PyNODE.quiet(),
        isoutofdomain = reached,
    )
    copyto!(wrap(T, dy0, n), Array(vec(du)))
    np > 0 && copyto!(wrap(T, dp, np), Array(vec(dtheta)))
    return reached.t
end

"""The forward solution over (t0, t1): the one that was kept, or one more where an event cut it off before its end."""
function solution(S, t1)
    t1 == S.prob.tspan[2] && return S.sol
    return solve!(begin_solve(remake(S.prob; tspan = (S.prob.tspan[1], Float64(t1))), S.alg; S.control...))
end

# No precompile workload here: Julia 1.10.8 crashed on the package image that one made.

end
