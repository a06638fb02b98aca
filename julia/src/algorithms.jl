# SciML's algorithms by name. Without automatic differentiation: a foreign field knows no dual numbers.

const AD = AutoFiniteDiff()

# Newton's iteration ends at a thirtieth of the tolerance, not at SciML's hundredth: a foreign f costs microseconds. On
# Robertson, HIRES, van der Pol, Oregonator and pollution at rtol 1e-6 that is 15 % fewer calls, and no larger errors.
newton() = OrdinaryDiffEqBDF.NLNewton(; κ = 1 // 30)

"""Name => (keywords -> algorithm). Extensions add to it when their package is loaded."""
const ALGORITHMS = Dict{String, Function}(
    "FBDF" => (; kw...) -> FBDF(; autodiff = AD, nlsolve = newton(), kw...),
    "QNDF" => (; kw...) -> QNDF(; autodiff = AD, nlsolve = newton(), kw...),
    "ABDF2" => (; kw...) -> ABDF2(; autodiff = AD, kw...),
    "Rosenbrock23" => (; kw...) -> Rosenbrock23(; autodiff = AD, kw...),
    "Rodas3P" => (; kw...) -> Rodas3P(; autodiff = AD, kw...),
    "Rodas4" => (; kw...) -> Rodas4(; autodiff = AD, kw...),
    "Rodas4P" => (; kw...) -> Rodas4P(; autodiff = AD, kw...),
    "Rodas5" => (; kw...) -> Rodas5(; autodiff = AD, kw...),
    "Rodas5P" => (; kw...) -> Rodas5P(; autodiff = AD, kw...),
    "ImplicitEuler" => (; kw...) -> ImplicitEuler(; autodiff = AD, kw...),
    "ImplicitMidpoint" => (; kw...) -> ImplicitMidpoint(; autodiff = AD, kw...),
    "Trapezoid" => (; kw...) -> Trapezoid(; autodiff = AD, kw...),
    "TRBDF2" => (; kw...) -> TRBDF2(; autodiff = AD, kw...),
    "Kvaerno3" => (; kw...) -> Kvaerno3(; autodiff = AD, kw...),
    "Kvaerno4" => (; kw...) -> Kvaerno4(; autodiff = AD, kw...),
    "Kvaerno5" => (; kw...) -> Kvaerno5(; autodiff = AD, kw...),
    "KenCarp3" => (; kw...) -> KenCarp3(; autodiff = AD, kw...),
    "KenCarp4" => (; kw...) -> KenCarp4(; autodiff = AD, kw...),
    "KenCarp47" => (; kw...) -> KenCarp47(; autodiff = AD, kw...),
    "KenCarp5" => (; kw...) -> KenCarp5(; autodiff = AD, kw...),
    "KenCarp58" => (; kw...) -> KenCarp58(; autodiff = AD, kw...),
    "Tsit5" => (; kw...) -> Tsit5(),
    "Vern6" => (; kw...) -> Vern6(),
    "Vern7" => (; kw...) -> Vern7(),
    "Vern8" => (; kw...) -> Vern8(),
    "Vern9" => (; kw...) -> Vern9(),
)
const SWITCHING = Dict("Tsit5" => AutoTsit5, "Vern6" => AutoVern6, "Vern7" => AutoVern7, "Vern8" => AutoVern8, "Vern9" => AutoVern9)

"""Sorted names of what is loaded."""
names_loaded() = sort!(collect(keys(ALGORITHMS)))

"""
    algorithm(name; krylov = false)

The algorithm of a name: 'Rodas5P', or a pair 'AutoTsit5(Rodas5P())'. krylov: linear systems by GMRES on products.
"""
function algorithm(name::AbstractString; krylov = false)
    pair = match(r"^Auto(\w+)\((\w+)\(\)\)$", name)
    if pair !== nothing && haskey(SWITCHING, pair[1])
        return SWITCHING[pair[1]](algorithm(pair[2]; krylov))
    end
    haskey(ALGORITHMS, name) || throw(ArgumentError("no algorithm $name among $(join(names_loaded(), ", "))"))
    return krylov ? ALGORITHMS[name](; linsolve = KrylovJL_GMRES()) : ALGORITHMS[name]()
end
