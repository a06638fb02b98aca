module PyNODERadauExt

using PyNODE: PyNODE, AD, linear_solver
using OrdinaryDiffEqFIRK: RadauIIA3, RadauIIA5, RadauIIA9

for name in (:RadauIIA3, :RadauIIA5, :RadauIIA9)
    @eval PyNODE.algorithm(::Val{$(QuoteNode(name))}; krylov = false, linsolve = linear_solver(krylov)) =
        $name(; autodiff = AD, linsolve)
end

PyNODE.fitting_atol(::Union{RadauIIA3, RadauIIA5, RadauIIA9}, atol) = minimum(atol)

end
