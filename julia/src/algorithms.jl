# SciML's algorithms by name. Each name has a method of `algorithm` on its `Val`, with the keywords that it takes and no others.
# An extension adds methods for the algorithms of its package.

# No automatic differentiation: a foreign field knows no dual numbers.
const AD = AutoFiniteDiff()

# Newton's iteration ends at a thirtieth of the tolerance, not at SciML's hundredth: a foreign f costs microseconds. On
# Robertson, HIRES, van der Pol, Oregonator and pollution at rtol 1e-6 that is 15 % fewer calls, and no larger errors.
newton() = OrdinaryDiffEqBDF.NLNewton(; κ = 1 // 30)

"""What solves the linear systems: GMRES on products, or factors of the matrix."""
linear_solver(krylov::Bool) = krylov ? KrylovJL_GMRES() : DirectSolver()

for name in (:FBDF, :QNDF)
    @eval algorithm(::Val{$(QuoteNode(name))}; krylov = false, linsolve = linear_solver(krylov)) =
        $name(; autodiff = AD, nlsolve = newton(), linsolve)
end

for name in (
        :ABDF2, :ImplicitEuler, :ImplicitMidpoint, :Trapezoid, :TRBDF2, :Kvaerno3, :Kvaerno4, :Kvaerno5, :KenCarp3, :KenCarp4,
        :KenCarp47, :KenCarp5, :KenCarp58, :Rosenbrock23, :Rodas3P, :Rodas4, :Rodas4P, :Rodas4P2, :Rodas5, :Rodas5P, :Rodas6P,
        # Rosenbrock-W methods, which keep their order with an old Jacobian. RosenbrockW6S4OS is left out, since its steps have one
        # size, and ROS34PW1a and b, whose estimates cost ten times the steps of the others.
        :Rodas23W, :Rodas4PW, :ROS34PW2, :ROS34PW3, :ROS34PRw, :ROK4a,
    )
    @eval algorithm(::Val{$(QuoteNode(name))}; krylov = false, linsolve = linear_solver(krylov)) = $name(; autodiff = AD, linsolve)
end

for name in (:Tsit5, :Vern6, :Vern7, :Vern8, :Vern9)
    @eval algorithm(::Val{$(QuoteNode(name))}) = $name()
    @eval switching(::Val{$(QuoteNode(name))}, stiff) = $(Symbol(:Auto, name))(stiff)
end

"""Sorted names of what is loaded."""
names_loaded() = sort!([string(method.sig.parameters[2].parameters[1]) for method in methods(algorithm, Tuple{Val})])

"""
    algorithm(name; krylov = false, options...)

The algorithm of a name: 'Rodas5P', or a pair 'AutoTsit5(Rodas5P())', whose options are those of the second. krylov: linear systems
by GMRES on products. options: keywords of the method of this name. Throws ArgumentError for a name that is not loaded, and for a
keyword that its method does not take.
"""
function algorithm(name::AbstractString; krylov = false, options...)
    pair = match(r"^Auto(\w+)\((\w+)\(\)\)$", name)
    if pair !== nothing && hasmethod(switching, Tuple{Val{Symbol(pair[1])}, Any})
        return switching(Val(Symbol(pair[1])), algorithm(pair[2]; krylov, options...))
    end
    symbol = Val(Symbol(name))
    hasmethod(algorithm, Tuple{typeof(symbol)}) ||
        throw(ArgumentError("no algorithm $name is loaded: choose one of $(join(names_loaded(), ", "))"))
    # An explicit method takes no krylov = false either.
    chosen = krylov ? (; krylov, options...) : (; options...)
    for keyword in keys(chosen)
        hasmethod(algorithm, Tuple{typeof(symbol)}, (keyword,)) ||
            throw(ArgumentError("$name takes no keyword $keyword: leave it out"))
    end
    return algorithm(symbol; chosen...)
end
