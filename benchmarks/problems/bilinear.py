"""Reaction kinetics and other fields of products of two states."""

from benchmarks.formulas import constants, formula
from benchmarks.package_problems import register_smooth, register_stiff
from pynode.problems.bilinear import Bilinear


@formula.register
def _(field: Bilinear, array, tanh):
    fixed, _ = constants(field, array)
    c = array(field.coefficients().detach().numpy())
    first = field.first.numpy()
    return lambda y, parameters=None: fixed["S"] @ (c * y[first] * (fixed["A"] @ y + fixed["b"]))


register_stiff("robertson", 10)
register_stiff("oregonator", 30)
register_stiff("pollution", 50)
register_smooth("lotka_volterra", 70)
