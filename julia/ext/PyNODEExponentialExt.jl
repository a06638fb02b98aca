module PyNODEExponentialExt

using PyNODE: PyNODE, AD
using OrdinaryDiffEqExponentialRK: ETDRK2, ETDRK3, ETDRK4, HochOst4

# The linear part is the Jacobian at the start of each step, and products with its functions come from Krylov subspaces. Only the
# methods whose stages ask f at their own times are here: Exprb32, Exprb43, Exp4 and the EPIRK methods take f to be autonomous.
for name in (:ETDRK2, :ETDRK3, :ETDRK4, :HochOst4)
    @eval PyNODE.algorithm(::Val{$(QuoteNode(name))}; m = 30) = $name(; krylov = true, m, autodiff = AD)
end

end
