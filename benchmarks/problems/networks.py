"""A 3-50-50-3 tanh network and the same made stiff, with their training gradients."""

from benchmarks import problems as registry
from benchmarks.case import Case
from benchmarks.fields import MLP, StiffMLP, start
from benchmarks.formulas import formula
from pynode.problems.base import Problem


@formula.register
def _(field: MLP, array, tanh):
    named = {name: array(value.detach().numpy()) for name, value in field.named_parameters()}
    stiff = isinstance(field, StiffMLP)

    def right(y, parameters=None):
        values = dict(zip(named, parameters, strict=True)) if parameters is not None else named
        layers = [value for name, value in values.items() if name.startswith("layers")]
        u = y
        for weight, bias in zip(layers[:-2:2], layers[1:-2:2]):
            u = tanh(weight @ u + bias)
        out = layers[-2] @ u + layers[-1]
        return values["rates"] * (out - y) if stiff else out

    return right


def _register(name, field, kind, place):
    def make():
        return Problem(name, field(), start(), (0.0, 5.0), 1e-6, 1e-8, kind == registry.STIFF, "")

    def case(rtol):
        return Case.smooth(make(), rtol)

    return registry.register(registry.Entry(name, kind, place, make, case, network=True))


registry.register_gradient(_register("mlp", MLP, registry.SMOOTH, 90), 100)
registry.register_gradient(_register("stiff mlp", StiffMLP, registry.STIFF, 60), 110)
