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

table = PyNODE.Example.table()
GC.@preserve table begin
    @testset "$name" for (name, (through, own)) in allocations(PyNODE.field(64, 3, 1, 3, PyNODE.address(table)))
        @test through <= own
    end
end
