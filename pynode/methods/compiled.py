"""A whole step as one compiled function: the vector field, its Jacobian and the stages fused, where launches cost more than sums.

What a step decides (accept, next size) stays outside, so that one function serves every step and every solve: times, sizes, states,
args and parameters are its inputs.
"""

from __future__ import annotations

import torch

from ..algebra.linear import INVERSE_BELOW
from .explicit import ExplicitRungeKutta
from .rosenbrock import RosenbrockMethod

FAMILIES = (ExplicitRungeKutta, RosenbrockMethod)
_KEPT = "_pynode_compiled"


class Steps(dict):
    """The compiled functions of one module, kept in it; a copy of the module starts without any, since they belong to this one."""

    def __deepcopy__(self, memo):
        return Steps()

    def __reduce__(self):
        return Steps, ()


class CompiledSteps:
    """Steps of one method on one field. backend: of torch.compile."""

    def __init__(self, method, field, backend):
        self.layout, self.args, self.stats = field.layout, field.args, field.stats
        owner = field.f
        # A module made for this solve alone around another: what was compiled is kept in the one that stays.
        kept = getattr(owner, "field", owner) if type(owner).__name__ == "_Autonomous" else owner
        steps = kept.__dict__.setdefault(_KEPT, Steps())
        key = method.name, method.adaptive, backend, type(owner), field.dtype, field.device, field.layout.key
        if key not in steps:
            make = _rosenbrock if isinstance(method, RosenbrockMethod) else _explicit
            steps[key] = torch.compile(make(method, owner, self.layout), fullgraph=True, dynamic=False, backend=backend)
        self.function, self.stages = steps[key], method.tableau.stages

    def bound(self, field):
        """The same for a field with other args."""
        self.args, self.stats = field.args, field.stats
        return self

    def explicit(self, t, y, h, first):
        """(y1, error, stages) of a step; first: f(t, y) if it is known."""
        self.stats.nfe += self.stages - (first is not None)
        return self.function(*_scalars(t, h, y), y, first, self.args)

    def rosenbrock(self, t, y, h):
        """(y1, error, stages u) of a step."""
        self.stats.nfe += self.stages
        self.stats.nsolve += self.stages
        self.stats.njac += 1
        self.stats.nlu += 1
        return self.function(*_scalars(t, h, y), y, self.args)


def _scalars(t, h, y):
    return torch.scalar_tensor(t, dtype=y.dtype, device=y.device), torch.scalar_tensor(h, dtype=y.dtype, device=y.device)


class _Uncounted:
    nsolve = 0


class _Plain:
    """What ``attempt`` asks of a field."""

    mass = None

    def __init__(self, f, layout, args):
        self.f, self.layout, self.args, self.stats = f, layout, args, _Uncounted()

    def __call__(self, t, y):
        return self.layout.ravel(self.f(t, self.layout.unravel(y), *self.args))


class _Inverse:
    def __init__(self, matrix):
        self.inverse = torch.linalg.inv_ex(matrix)[0]

    def solve(self, b, factor):
        return torch.mv(self.inverse, b) * factor


class _LU:
    def __init__(self, matrix):
        self.lu, self.pivots, _ = torch.linalg.lu_factor_ex(matrix)

    def solve(self, b, factor):
        return torch.linalg.lu_solve(self.lu, self.pivots, (b * factor).unsqueeze(1)).squeeze(1)


def _explicit(method, f, layout):
    method.rows, method.nodes  # noqa: B018  made before the compiler looks at them

    def attempt(t, h, y, first, args):
        return method.attempt(_Plain(f, layout, args), t, y, h, first)

    return attempt


def _rosenbrock(method, f, layout):
    method.rows, method.numbers  # noqa: B018  as above
    solver = _Inverse if layout.size < INVERSE_BELOW else _LU

    def attempt(t, h, y, args):
        field = _Plain(f, layout, args)
        eye = torch.eye(layout.size, dtype=y.dtype, device=y.device)
        # Rows of df/dy, and df/dt with them: one vectorised product.
        _, pull = torch.func.vjp(field, t, y)
        slope, jac = torch.func.vmap(pull)(eye)
        return method.attempt(field, t, y, h, slope, solver(eye - (h * method.numbers[0]) * jac))

    return attempt
