# The Gauss adjoint without SciMLSensitivity: lambda' = -(df/dy)' lambda backwards in time with the exact Jacobian of the
# forward solution's interpolant, the parameters' part by Gauss quadrature on every step, cost n^3 + np.
# Rackauckas et al., SciMLSensitivity's GaussAdjoint; Norcliffe & Deisenroth, Faster training of neural ODEs using
# Gauss-Legendre quadrature, TMLR 2023.

"""Nodes and weights of Gauss and Legendre on (-1, 1), by the eigenvalues of Jacobi's matrix. Golub & Welsch 1969."""
function gauss_legendre(m)
    beta = [k / sqrt(4k^2 - 1) for k in 1:(m - 1)]
    values, vectors = eigen(SymTridiagonal(zeros(m), beta))
    return values, 2 .* vectors[1, :] .^ 2
end

"""
    native_gauss(S, F, dy0, dp, cotangents, times, t1, alg; rtol, atol, nodes)

With a mass matrix, which must have an inverse, the adjoint of y' = M^-1 f.

Cotangents (n, count) at ascending `times`, (address, count), to those of y0 and of the parameters, written to the addresses
dy0 (n,) and dp (np,). t1: where the forward solve ended; the reverse one begins at the last of the times. Returns the time that
it reached, the start of the forward one where all went well.
"""
function native_gauss(S::Solved, F::Field{T}, dy0, dp, cotangents, times, t1, alg; rtol, atol, nodes = 3) where {T}
    n = length(F.y)
    ts = copy(wrap(Float64, times...))
    G = there(F, wrap(T, cotangents, n, length(ts)))
    lambda, mu, reached = _native_gauss(S.sol, F, S.prob.tspan[1], ts, G, alg, Float64(rtol), Float64(atol), Int(nodes))
    copyto!(wrap(T, dy0, n), lambda)
    copyto!(wrap(T, dp, length(mu)), mu)
    return reached
end

function _native_gauss(sol, F::Field{T}, t0, ts, G, alg, rtol, atol, nodes) where {T}
    n, np = length(F.y), length(F.ptv[])
    y, lambda, g, mu = blank(F, n), blank(F, n), blank(F, np), blank(F, np)
    Jy = F.pattern === nothing ? blank(F, n, n) : copy(F.pattern)
    vjp, vjp_p, jac = VJP(F), ParameterVJP(F), Jac(F)
    M = sol.prob.f.mass_matrix
    W = M isa UniformScaling ? M : transpose(inv(M))
    rhs!(dl, l, _, t) = (sol(y, t); vjp(dl, W * l, y, nothing, t); dl .*= -1; nothing)
    matrix!(J, l, _, t) = (sol(y, t); jac(Jy, y, nothing, t); J .= .-(transpose(Jy) * W); nothing)
    x, w = gauss_legendre(nodes)
    function quadrature!(integrator)
        a, b = integrator.tprev, integrator.t
        if np > 0
            for k in eachindex(x)
                t = (a + b) / 2 + (b - a) / 2 * x[k]
                integrator(lambda, t)
                sol(y, t)
                vjp_p(g, W * lambda, y, nothing, t)
                mu .-= T((b - a) / 2 * w[k]) .* g  # b < a
            end
        end
        settle!(integrator)
    end
    quadrature = DiscreteCallback((u, t, integrator) -> true, quadrature!; save_positions = (false, false))
    left = Ref(length(ts) - 1)
    jump! = integrator -> (integrator.u .+= view(G, :, left[]); left[] -= 1; nothing)
    jumps = PresetTimeCallback(ts[1:(end - 1)], jump!; save_positions = (false, false))
    f = ODEFunction{true, SciMLBase.FullSpecialize}(rhs!; jac = given(F.jac) ? matrix! : nothing)
    integrator = begin_solve(
        ODEProblem(f, G[:, end], (ts[end], t0)), alg; reltol = rtol, abstol = atol,
        callback = CallbackSet(quadrature, jumps), save_everystep = false, dense = false, verbose = quiet(),
    )
    solve!(integrator)
    return integrator.u, mu, Float64(integrator.t)
end
