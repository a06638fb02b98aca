# The linear systems of implicit methods. For small dense matrices LAPACK is the wrong tool: a call
# of its solve for two unknowns costs as much as a step of the method, and OpenBLAS takes a lock in
# each one, so that two threads with a solve each took longer than one thread with both.

"""
Linear systems by LU decomposition: here for dense matrices of the host with at most `SMALL`
columns, by LAPACK for larger ones, and by what LinearSolve chooses for other matrices.
"""
struct DirectSolver <: LinearSolve.SciMLLinearSolveAlgorithm end

# From here on LAPACK is as fast (Julia 1.10, one thread).
const SMALL = 32

"""
The factors of a dense matrix, L and U in one, P A = L U: the row of column k of L was exchanged
with row pivots[k]. is_regular: whether no pivot was zero.
"""
mutable struct DenseFactors{T}
    const values::Matrix{T}
    pivots::Vector{LinearAlgebra.BlasInt}
    is_regular::Bool
end
DenseFactors(A::Matrix{T}) where {T} =
    DenseFactors(zeros(T, size(A)), zeros(LinearAlgebra.BlasInt, size(A, 1)), true)

"""Factorise A, which stays as it is."""
function factorise!(factors::DenseFactors{T}, A::Matrix{T}) where {T}
    values = copyto!(factors.values, A)
    if size(A, 1) <= SMALL
        factors.is_regular = eliminate!(values, factors.pivots)
    else
        _, factors.pivots, info = LinearAlgebra.LAPACK.getrf!(values; check = false)
        factors.is_regular = info == 0
    end
    return factors
end

"""Gaussian elimination with partial pivoting, in place. Whether no pivot was zero."""
function eliminate!(A::Matrix, pivots)
    n = size(A, 1)
    @inbounds for k in 1:n
        p = pivot_row(A, k)
        pivots[k] = p
        iszero(A[p, k]) && return false
        p == k || exchange_rows!(A, k, p)
        scale = inv(A[k, k])
        for i in (k + 1):n
            A[i, k] *= scale
        end
        for j in (k + 1):n
            factor = A[k, j]
            iszero(factor) && continue
            @simd for i in (k + 1):n
                A[i, j] -= A[i, k] * factor
            end
        end
    end
    return true
end

"""The row, from k on, of the largest entry in column k."""
function pivot_row(A, k)
    p = k
    @inbounds largest = abs(A[k, k])
    @inbounds for i in (k + 1):size(A, 1)
        size_here = abs(A[i, k])
        if size_here > largest
            p = i
            largest = size_here
        end
    end
    return p
end

function exchange_rows!(A, k, p)
    @inbounds for j in axes(A, 2)
        A[k, j], A[p, j] = A[p, j], A[k, j]
    end
    return nothing
end

"""Solve A x = b by its factors; x: holds b, and afterwards the solution."""
function substitute!(x::Vector{T}, factors::DenseFactors{T}) where {T}
    values = factors.values
    n = length(x)
    if n > SMALL
        LinearAlgebra.LAPACK.getrs!('N', values, factors.pivots, x)
        return x
    end
    @inbounds for k in 1:n
        p = factors.pivots[k]
        p == k || ((x[k], x[p]) = (x[p], x[k]))
    end
    @inbounds for k in 1:n
        factor = x[k]
        @simd for i in (k + 1):n
            x[i] -= values[i, k] * factor
        end
    end
    @inbounds for k in n:-1:1
        x[k] /= values[k, k]
        factor = x[k]
        @simd for i in 1:(k - 1)
            x[i] -= values[i, k] * factor
        end
    end
    return x
end

# The interface of LinearSolve.

LinearSolve.needs_concrete_A(::DirectSolver) = true

LinearSolve.init_cacheval(
    ::DirectSolver, A::Matrix, b, u, Pl, Pr, maxiters::Int, abstol, reltol, verbose, assumptions,
) = DenseFactors(A)

function LinearSolve.init_cacheval(
        ::DirectSolver, A, b, u, Pl, Pr, maxiters::Int, abstol, reltol, verbose, assumptions,
    )
    return init(LinearSolve.LinearProblem(A, b; u0 = u), nothing; verbose)
end

function SciMLBase.solve!(cache::LinearSolve.LinearCache, alg::DirectSolver; keywords...)
    return solve_by!(cache, cache.cacheval, alg)
end

function solve_by!(cache, factors::DenseFactors, alg)
    if cache.isfresh
        factorise!(factors, cache.A)
        cache.isfresh = false
    end
    x = cache.u
    if factors.is_regular
        substitute!(copyto!(x, cache.b), factors)
    else
        # As LinearSolve does for a singular matrix.
        copyto!(x, qr(cache.A, ColumnNorm()) \ cache.b)
    end
    return SciMLBase.build_linear_solution(
        alg, x, nothing, cache; retcode = SciMLBase.ReturnCode.Success,
    )
end

function solve_by!(cache, inner::LinearSolve.LinearCache, alg)
    if cache.isfresh
        inner.A = cache.A
        cache.isfresh = false
    end
    inner.b = cache.b
    answer = solve!(inner)
    copyto!(cache.u, answer.u)
    return SciMLBase.build_linear_solution(alg, cache.u, nothing, cache; answer.retcode)
end
