module PyNODERadau

using PyNODE: ALGORITHMS, AD
using OrdinaryDiffEqFIRK: RadauIIA3, RadauIIA5, RadauIIA9

function __init__()
    ALGORITHMS["RadauIIA3"] = (; kw...) -> RadauIIA3(; autodiff = AD, kw...)
    ALGORITHMS["RadauIIA5"] = (; kw...) -> RadauIIA5(; autodiff = AD, kw...)
    return ALGORITHMS["RadauIIA9"] = (; kw...) -> RadauIIA9(; autodiff = AD, kw...)
end

end
