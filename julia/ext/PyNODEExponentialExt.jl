module PyNODEExponentialExt

using PyNODE: PyNODE, AD
using OrdinaryDiffEqExponentialRK: ETDRK2, ETDRK3, ETDRK4

# The linear part is the Jacobian at the start of each step. Products with its exponential functions come from Krylov spaces of at
# most m dimensions, which are exact up to m states. There is no estimate of their error: with 30 dimensions, SciML's default, 100
# states of the heat equation lost two digits.
#
# Order on a problem that depends on t, steps of one size (OrdinaryDiffEqExponentialRK 2.0.2): these three have theirs. Left out:
# HochOst4, Exprb32, Exp4, the EPIRK methods and EXPRB53s3 have order 1 there, Exprb43 has order 2. They take f to be autonomous.
for name in (:ETDRK2, :ETDRK3, :ETDRK4)
    @eval PyNODE.algorithm(::Val{$(QuoteNode(name))}; m = 100) = $name(; krylov = true, m, autodiff = AD)
end

end
