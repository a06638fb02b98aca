# What ends a solve, and what is refused.
stops() = Cint(1)

"""The answer of a solve of the example with these changes, its outcome and its message."""
function served(name = "FBDF"; changed...)
    solve = PyNODE.posed(PyNODE.choose(name); changed...)
    GC.@preserve solve begin
        answer = PyNODE.serve_forward(pointer(solve.requests))
    end
    text = unsafe_string(pointer(solve.message))
    return answer, solve.requests[1].outcome, text
end

@testset "a hook that fails before the first step" begin
    answer, _, _ = served(; f = @cfunction(stops, Cint, ()))
    @test answer == PyNODE.STOPPED
end

@testset "limits of native functions" begin
    answer, outcome, _ = served(; native = true, most = 50)
    @test answer == PyNODE.SERVED
    @test outcome.cause == PyNODE.CAUSES.max_nfe
    @test outcome.nfe == 50
    @test 0 < outcome.t < 2
    _, outcome, _ = served(; native = true, maxiters = 5)
    @test outcome.ending == 2
end

@testset "a flag stops a native solve" begin
    flag = [1]
    GC.@preserve flag begin
        # The first look at the flag comes after some time: steps of a millionth make it long.
        answer, outcome, _ = served(
            "Tsit5"; native = true, stop = pointer(flag), first = 1e-7, fixed = 1,
            maxiters = 10^9,
        )
    end
    @test outcome.cause == PyNODE.CAUSES.interrupted
end

@testset "a place that nothing serves" begin
    answer, _, text = served("Tsit5"; device = 7)
    @test answer == PyNODE.FAILED
    @test occursin("no states", text)
end

@testset "a request of another version" begin
    answer, _, text = served(; version = 99)
    @test answer == PyNODE.FAILED
    @test occursin("version", text)
end

@testset "an algorithm that is not there" begin
    message = zeros(UInt8, 500)
    GC.@preserve message begin
        name = "Nonsense"
        number = PyNODE.choose_named(pointer(name), Int64(8), Int64(0), pointer(message), Int64(500))
        @test number == -1
        @test occursin("Nonsense", unsafe_string(pointer(message)))
    end
end
