# The Gauss adjoint without SciMLSensitivity: lambda' = -(df/dy)' lambda backwards in time with
# the exact Jacobian of the forward solution's interpolant, the parameters' part by Gauss
# quadrature on every step, cost n^3 + np.
# Rackauckas et al., SciMLSensitivity's GaussAdjoint; Norcliffe & Deisenroth, Faster training of
# neural ODEs using Gauss-Legendre quadrature, TMLR 2023.

"""Nodes and weights of Gauss and Legendre on (-1, 1), by the eigenvalues of Jacobi's matrix.
Golub & Welsch 1969."""
function gauss_legendre(m)
    beta = [k / sqrt(4k^2 - 1) for k in 1:(m - 1)]
    values, vectors = eigen(SymTridiagonal(zeros(m), beta))
    return values, 2 .* vectors[1, :] .^ 2
end

const GAUSS_RULE = gauss_legendre(3)

"""
What the reverse solve of `native_gauss` reads and writes. interpolate!(y, t): the forward state,
behind a pointer, so that one compiled reverse solve serves all forward methods. y: it, at the time
y_time; weighted: M^-T lambda; slope: (df/dp)' of it; mu: the cotangent of the parameters; jacobian:
df/dy. asked, answered: lambda and lambda' at the time asked_time. first: the start of the forward
solve; step: the size of the last reverse step.
"""
mutable struct GaussAdjoint{F, V, J, W}
    const field::F
    const interpolate!::FunctionWrapper{Nothing, Tuple{V, Float64}}
    const y::V
    const weighted::V
    const lambda::V
    const slope::V
    const mu::V
    const jacobian::J
    const mass::W
    const asked::V
    const answered::V
    const first::Float64
    y_time::Float64
    asked_time::Float64
    step::Float64
end

function GaussAdjoint(S::Solved)
    F = S.field
    np = parameter_count(F)
    M = S.prob.f.mass_matrix
    # The mass matrix belongs to a small system, and is factorised once.
    mass = M isa UniformScaling ? nothing : lu(transpose(M))
    y = blank(F, F.n)
    sol = S.sol
    interpolate! = FunctionWrapper{Nothing, Tuple{typeof(y), Float64}}(
        (y, t) -> (sol(y, t); nothing),
    )
    first, last = S.prob.tspan
    return GaussAdjoint(
        F, interpolate!, y, blank(F, F.n), blank(F, F.n), blank(F, np), blank(F, np),
        prototype(F), mass, blank(F, F.n), blank(F, F.n), first, NaN, NaN, last - first,
    )
end

"""The forward state at the solver's time t. Stages of one step often share their time."""
function forward_state!(g::GaussAdjoint, t)
    g.y_time == t && return g.y
    g.interpolate!(g.y, t)
    g.y_time = t
    return g.y
end

"""M^-T lambda."""
weigh(g::GaussAdjoint{F, V, J, Nothing}, lambda) where {F, V, J} = lambda
weigh(g::GaussAdjoint, lambda) = ldiv!(g.mass, copyto!(g.weighted, lambda))

"""lambda' at the solver's time t."""
struct ReverseSlope{G}
    adjoint::G
end
function (slope::ReverseSlope)(dlambda, lambda, p, t)
    g = slope.adjoint
    reverse_slope!(dlambda, g, lambda, t)
    copyto!(g.asked, lambda)
    copyto!(g.answered, dlambda)
    g.asked_time = t
    return nothing
end

function reverse_slope!(dlambda, g::GaussAdjoint, lambda, t)
    y = forward_state!(g, t)
    VJP(g.field)(dlambda, weigh(g, lambda), y, nothing, t)
    dlambda .*= -1
    return nothing
end

"""
The derivative of lambda' in t, by a difference. A Rosenbrock method asks for it where it has just
asked for lambda', so that one more value is enough. A step of the method resolves how lambda' changes
with t, so a small fraction of it is a good distance.
"""
struct ReverseTimeGradient{G}
    adjoint::G
end
function (gradient::ReverseTimeGradient)(dT, lambda, p, t)
    g = gradient.adjoint
    if !(g.asked_time == t && g.asked == lambda)
        ReverseSlope(g)(dT, lambda, p, t)
    end
    distance = max(10 * sqrt(eps(eltype(lambda))) * g.step, 16 * eps(t))
    # Backwards, into the next step, but not out of the forward solution.
    shifted = t - distance < g.first ? t + distance : t - distance
    reverse_slope!(dT, g, lambda, shifted)
    dT .= (dT .- g.answered) ./ (shifted - t)
    return nothing
end

"""The Jacobian of lambda' in lambda."""
struct ReverseJacobian{G}
    adjoint::G
end
function (jacobian::ReverseJacobian)(J, lambda, p, t)
    g = jacobian.adjoint
    Jac(g.field)(g.jacobian, forward_state!(g, t), nothing, t)
    negative_transpose!(J, g.jacobian, g.mass)
    return nothing
end
# Not SciML's look into tables of methods, as in compat.jl.
SciMLBase.numargs(::Union{ReverseSlope, ReverseTimeGradient, ReverseJacobian}) = (4,)

negative_transpose!(J, jacobian, ::Nothing) = (J .= .-transpose(jacobian))
# (M^-1 df/dy)' = (df/dy)' M^-T
negative_transpose!(J, jacobian, mass) = rdiv!(J .= .-transpose(jacobian), mass)

"""Add the parameters' part of the last step of the reverse solve."""
function add_quadrature!(g::GaussAdjoint, integrator)
    x, w = GAUSS_RULE
    a, b = integrator.tprev, integrator.t
    T = eltype(g.mu)
    for k in eachindex(x)
        t = (a + b) / 2 + (b - a) / 2 * x[k]
        integrator(g.lambda, t)
        y = forward_state!(g, t)
        ParameterVJP(g.field)(g.slope, weigh(g, g.lambda), y, nothing, t)
        g.mu .-= T((b - a) / 2 * w[k]) .* g.slope  # b < a
    end
    return nothing
end

"""
The natural size of each component of lambda, (n,). G: (n, count), the cotangents of the states.

The unit of lambda_i is the unit of the loss divided by that of y_i. A species of 1e-10 can enter
the loss with a cotangent of 1 and change it by only 1e-10; the cotangents of the other species are
then as small. No component counts as larger than the largest of G.
"""
function cotangent_scales(S::Solved, G)
    states = S.control.abstol .+ zero(S.y)
    for y in S.sol.u
        states .= max.(states, abs.(y))
    end
    jumps = vec(maximum(abs, G; dims = 2))
    loss = sum(jumps .* states)
    return min.(loss ./ states, maximum(jumps))
end

"""
    native_gauss(S, G, ts, alg; rtol, atol)

The cotangents of y0 and of the parameters from those of the states, G (n, count) at the
ascending times ts, and the time that the reverse solve reached: the start of the forward one
where all went well. atol: (n,). With a mass matrix, which must have an inverse, the adjoint of
y' = M^-1 f.
"""
native_gauss(S::Solved, G, ts, alg; rtol, atol) =
    reverse_gauss(GaussAdjoint(S), G, ts, S.prob.tspan[1], alg, rtol, atol)

function reverse_gauss(g::GaussAdjoint, G, ts, t0, alg, rtol, atol)
    F = g.field
    function after_step!(integrator)
        g.step = abs(integrator.t - integrator.tprev)
        isempty(g.mu) || add_quadrature!(g, integrator)
        keep_steady!(integrator)
    end
    always = (u, t, integrator) -> true
    quadrature = DiscreteCallback(always, after_step!; save_positions = (false, false))
    left = Ref(length(ts) - 1)
    function jump!(integrator)
        integrator.u .+= view(G, :, left[])
        left[] -= 1
        return nothing
    end
    jumps = PresetTimeCallback(ts[1:(end - 1)], jump!; save_positions = (false, false))
    has_jacobian = is_given(F.jac) || is_given(F.functions.jac)
    f = ODEFunction{true, SciMLBase.FullSpecialize}(
        ReverseSlope(g); jac = has_jacobian ? ReverseJacobian(g) : nothing,
        tgrad = ReverseTimeGradient(g),
    )
    prob = ODEProblem(f, G[:, end], (ts[end], t0))
    integrator = begin_solve(
        prob, alg; reltol = rtol, abstol = fitting_atol(alg, atol), callback = CallbackSet(quadrature, jumps),
        save_everystep = false, dense = false, verbose = quiet(),
    )
    solve!(integrator)
    return integrator.u, g.mu, Float64(integrator.t), integrator.stats
end
