# A call of a hook allocates nothing of its own: a solve makes thousands.
using PyNODE: Jac, JVP, ParameterVJP, TimeGradient, VJP

allocated(f::F, arguments::Vararg{Any, N}) where {F, N} = (f(arguments...); @allocated f(arguments...))

"""Name => (bytes of a call through the field, bytes of the example's own function)."""
function allocations(F)
    y, v, out, J, dp = [1.0, 0.5, -0.2], ones(3), zeros(3), zeros(3, 3), zeros(1)
    own = PyNODE.Example
    return (
        "f" => (allocated(F, out, y, nothing, 0.5), allocated(own.f)),
        "jac" => (allocated(Jac(F), J, y, nothing, 0.5), allocated(own.jac)),
        "tgrad" => (allocated(TimeGradient(F), out, y, nothing, 0.5), allocated(own.tgrad)),
        "vjp" => (allocated(VJP(F), out, v, y, nothing, 0.5), allocated(own.vjp)),
        "vjp_p" => (allocated(ParameterVJP(F), dp, v, y, nothing, 0.5), allocated(own.vjp_p)),
        "jvp" => (allocated(JVP(F), out, v, y, nothing, 0.5), allocated(own.jvp)),
    )
end

solve = PyNODE.posed(0)
GC.@preserve solve begin
    @testset "$name" for (name, (through, own)) in allocations(PyNODE.field(solve.requests[1]))
        @test through <= own
    end
end

native = PyNODE.posed(0; native = true)
GC.@preserve native begin
    F = PyNODE.field(native.requests[1])
    y, out, J = [1.0, 0.5, -0.2], zeros(3), zeros(3, 3)
    @testset "native functions" begin
        @test allocated(F, out, y, nothing, 0.5) == 0
        @test allocated(Jac(F), J, y, nothing, 0.5) == 0
        @test allocated(TimeGradient(F), out, y, nothing, 0.5) == 0
        @test allocated(VJP(F), out, ones(3), y, nothing, 0.5) == 0
    end
end
