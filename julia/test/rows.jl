# The rows of a batch: each is served as if it were alone.
@testset "rows by $name" for name in ("QNDF", "Rodas5P")
    states, dp = PyNODE.example_rows(name, 5)
    alone, _, slope = PyNODE.example(name; native = true, reverse_with = "Rodas5P")
    @test all(==(alone), states)
    @test all(==(dp[1]), dp)
    @test dp[1] ≈ slope[1] rtol = 1e-5
end
