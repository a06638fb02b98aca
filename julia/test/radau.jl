# The extension for OrdinaryDiffEqFIRK; orders.jl measures its algorithms.
@test issubset(["RadauIIA3", "RadauIIA5", "RadauIIA9"], PyNODE.names_loaded())
