# The linear systems of implicit methods: small dense ones by PyNODE's own elimination, others by LAPACK or LinearSolve.
using PyNODE: DirectSolver, SMALL
using PyNODE.LinearSolve: LinearProblem, init
using PyNODE.SparseArrays: spdiagm

"""Entries of all sizes, none special; a matrix that needs its rows exchanged."""
entries(n) = [sin(3.7i + 1.3j^2) * 10.0^((5i + 3j) % 7 - 3) for i in 1:n, j in 1:n]

"""The solution of A x = b, and of a second system with the same factors, as an implicit method asks for them."""
function solutions(A, b, second)
    cache = init(LinearProblem(copy(A), copy(b)), DirectSolver())
    x = copy(solve!(cache).u)
    cache.b = copy(second)
    return x, copy(solve!(cache).u)
end

"""The backward error of a solution in units of rounding."""
backward_error(A, x, b) = norm(A * x - b) / (eps(real(eltype(x))) * (opnorm(A) * norm(x) + norm(b)))

@testset "$n unknowns, $T" for n in (1, 2, 3, 8, SMALL, SMALL + 1, 50), T in (Float64, Float32, ComplexF64)
    A = T.(entries(n)) + (T <: Complex ? T(1im) * I : T(0) * I)
    b, second = T.(sin.(1:n)), T.(cos.(1:n))
    x, y = solutions(A, b, second)
    @test eltype(x) == T
    @test backward_error(A, x, b) < 20n
    @test backward_error(A, y, second) < 20n
end

@testset "a pivot that is zero" begin
    A = [0.0 2.0; 1.0 0.0]
    x, y = solutions(A, [2.0, 3.0], [4.0, 5.0])
    @test x == [3.0, 1.0]
    @test y == [5.0, 2.0]
end

@testset "a new matrix in the same cache" begin
    cache = init(LinearProblem([2.0 0.0; 0.0 4.0], [2.0, 4.0]), DirectSolver())
    @test solve!(cache).u == [1.0, 1.0]
    cache.A = [4.0 0.0; 0.0 8.0]
    @test solve!(cache).u == [0.5, 0.5]
end

@testset "a singular matrix has the least squares solution, as with LinearSolve's own choice" begin
    x, y = solutions([1.0 1.0; 1.0 1.0], [2.0, 2.0], [4.0, 4.0])
    @test x ≈ [1.0, 1.0]
    @test y ≈ [2.0, 2.0]
end

@testset "a sparse matrix" begin
    A = spdiagm(-1 => fill(-1.0, 39), 0 => fill(3.0, 40), 1 => fill(-1.0, 39))
    b, second = sin.(1:40), cos.(1:40)
    x, y = solutions(A, b, second)
    @test backward_error(Matrix(A), x, b) < 100
    @test backward_error(Matrix(A), y, second) < 100
end

@testset "nothing is allocated" begin
    F = PyNODE.DenseFactors(entries(5))
    x = sin.(1:5)
    work!(F, A, x) = (PyNODE.factorise!(F, A); PyNODE.substitute!(x, F); nothing)
    A = entries(5)
    work!(F, A, x)
    @test (@allocated work!(F, A, x)) == 0
end
