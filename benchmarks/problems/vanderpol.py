"""Van der Pol's oscillator."""

from benchmarks.formulas import constants, formula
from benchmarks.package_problems import register_stiff
from pynode.problems.vanderpol import VanDerPol


@formula.register
def _(field: VanDerPol, array, tanh):
    fixed, k = constants(field, array)
    return lambda y, parameters=None: (
        fixed["rotation"] @ y + k * (fixed["W"] @ (y * y) + fixed["b"]) * y
    )


register_stiff("vanderpol", 20)
