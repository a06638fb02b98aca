"""The reactions of HIRES."""

from benchmarks.formulas import constants, formula
from benchmarks.package_problems import register_stiff
from pynode.problems.hires import Hires


@formula.register
def _(field: Hires, array, tanh):
    fixed, k = constants(field, array)
    linear = fixed["linear"]
    source = fixed["source"]
    bound = fixed["bound"]
    return lambda y, parameters=None: linear @ y + source + k * (bound @ y) * y[7:]


register_stiff("hires", 40)
