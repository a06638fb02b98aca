"""The cubic spiral."""

from benchmarks.formulas import constants, formula
from benchmarks.package_problems import register_smooth
from pynode.problems.spiral import Spiral


@formula.register
def _(field: Spiral, array, tanh):
    _, k = constants(field, array)
    return lambda y, parameters=None: k.reshape(2, 2) @ (y * y * y)


register_smooth("spiral", 80)
