# What a first solve would otherwise compile, in seconds: the type of a field does not depend on the model, so that one small
# problem compiles all of it, and the package image keeps it.

module Example

# A stiff linear system y' = p (A y + t), over buffers as the other side would own them.
const y, dy, v, jtv, jv, dT = (zeros(3) for _ in 1:6)
const t, times, ptv, J = zeros(1), zeros(3), zeros(1), zeros(9)
const nodes, inside = [0.0, 0.5, 1.0], zeros(3, 3)
const A = [-1.0 2.0 0.0; 0.0 -50.0 1.0; 1.0 0.0 -3.0]
const p = [1.0]

f() = (dy .= p[1] .* (A * y .+ t[1]); Cint(0))
vjp() = (jtv .= p[1] .* (A' * v); Cint(0))
vjp_p() = (ptv[1] = sum(v .* (A * y .+ t[1])); Cint(0))
jvp() = (jv .= p[1] .* (A * v); Cint(0))
jac() = (J .= p[1] .* vec(A); Cint(0))
tgrad() = (dT .= p[1]; Cint(0))
step() = Cint(0)
domain() = Cint(0)

"""Addresses for `PyNODE.field`, and hooks; only while they are in use."""
function table(; stepping = false)
    buffers = (y, t, dy, v, jtv, ptv, jv, J, dT, times, nodes, inside)
    hooks = (
        @cfunction(f, Cint, ()), @cfunction(vjp, Cint, ()), @cfunction(vjp_p, Cint, ()), @cfunction(jvp, Cint, ()),
        @cfunction(jac, Cint, ()), @cfunction(tgrad, Cint, ()), @cfunction(domain, Cint, ()),
        stepping ? @cfunction(step, Cint, ()) : C_NULL,
    )
    return Int64[Int64.(UInt.(pointer.(buffers)))..., Int64.(UInt.(hooks))...]
end

end

address(x) = Int(UInt(pointer(x)))

"""Solve the example by the algorithm of this name, and its gradient: (states, cotangents of y0, of p)."""
function example(name; rtol = 1e-6, stepping = false, reverse_with = nothing, adjoint = nothing, matrix = true, state = "cpu",
        choose = algorithm)
    table, y0, atol = Example.table(; stepping), [1.0, 0.5, -0.2], fill(rtol / 100, 3)
    outputs, stops, G = [0.0, 0.4, 2.0], Float64[], [zeros(3) ones(3) [1.0, -1.0, 0.5]]
    out, dy0, dp = zeros(3, 3), zeros(3), zeros(1)
    GC.@preserve table y0 atol outputs stops G out dy0 dp begin
        F = field(64, 3, 1, 3, address(table); state, ordinal = 0, origin = 0.0, direction = 1.0)
        S = forward(
            F, choose(name), address(y0), 0.0, 2.0, rtol, address(atol), (address(outputs), 3), (address(stops), 0);
            # All keywords, in the order of the Python side: each set of them compiles for itself.
            dense = reverse_with !== nothing, mass = 0, first = 0.0, fixed = false, smallest = 0.0, largest = Inf,
            maxiters = 100_000, matrix, uniform = false,
        )
        outputs!(S, F, address(out), (address(outputs), 3), reverse_with !== nothing)
        ending!(S, F, address(y0))
        statistics(S)
        if reverse_with !== nothing
            mesh = zeros(steps(S, F) + 1)
            samples = zeros(3, 3, steps(S, F))
            mesh!(S, F, address(mesh))
            sample!(S, F, address(samples))
            back = choose(reverse_with)
            arguments = (S, F, address(dy0), address(dp), address(G) + 3 * 8, (address(outputs) + 8, 2), 2.0, back)
            if adjoint === nothing
                native_gauss(arguments...; rtol, atol = rtol / 100)
            else
                reverse(arguments..., adjoint; rtol, atol = rtol / 100)
            end
        end
    end
    return out, dy0, dp
end

@setup_workload begin
    @compile_workload begin
        for name in ("FBDF", "QNDF", "Rodas5P", "Tsit5")
            example(name; reverse_with = name == "Tsit5" ? "Tsit5" : "Rodas5P")
        end
        example("KenCarp4")
    end
end
