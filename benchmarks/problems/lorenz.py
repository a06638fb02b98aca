"""Lorenz's attractor, which the suite leaves out."""

from benchmarks.formulas import constants, formula
from benchmarks.package_problems import register_smooth
from pynode.problems.lorenz import Lorenz


@formula.register
def _(field: Lorenz, array, tanh):
    fixed, k = constants(field, array)
    return lambda y, parameters=None: (
        fixed["N"] @ y + k * (fixed["M"] @ y) + y[:1] * (fixed["P"] @ y)
    )


# Beyond t = 5, chaos amplifies the errors of the reference itself.
register_smooth("lorenz", 85, end=5.0, suite=False)
