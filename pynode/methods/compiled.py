"""A whole step as one compiled function: the field, its Jacobian and the stages fused, where launches cost more than sums.

What a step decides (accept, next size) stays outside, so that one function serves every step and every solve: times, sizes,
states, args and parameters are its inputs. Gradients take the recorded steps as ever.
"""

from __future__ import annotations

import weakref

import torch

from ..algebra.linear import INVERSE_BELOW
from .explicit import ExplicitRungeKutta
from .rosenbrock import RosenbrockMethod

FAMILIES = (ExplicitRungeKutta, RosenbrockMethod)
_KEPT = "_pynode_compiled"


def check(field, method, jac):
    """ValueError or TypeError where steps of this method on this field cannot be compiled."""
    if not isinstance(method, FAMILIES):
        raise ValueError(
            f"compile=True is for explicit Runge-Kutta and Rosenbrock methods ('tsit5', 'rodas5p'): the steps of {method.name} "
            "branch on what they meet; leave compile away"
        )
    if not isinstance(field.f, torch.nn.Module):
        raise TypeError("compile=True keeps what it compiled in the vector field: write it as an nn.Module")
    if jac is not None or field.mass is not None or field.structure is not None or field.parts is not None:
        raise ValueError("compile=True takes small dense systems y' = f(t, y): leave jac, mass and structure away, or compile")


class Steps(dict):
    """The compiled functions of one module, kept in it. A copy or a replica has tensors of its own, and starts without any."""

    def __init__(self, owner=None):
        super().__init__()
        self.owner = None if owner is None else weakref.ref(owner)

    @classmethod
    def of(cls, module):
        steps = module.__dict__.get(_KEPT)
        if steps is None or steps.owner is None or steps.owner() is not module:
            steps = module.__dict__[_KEPT] = cls(module)
        return steps

    def __deepcopy__(self, memo):
        return Steps()

    def __reduce__(self):
        return Steps, ()


class CompiledSteps:
    """Steps of one method on one field. backend: of torch.compile."""

    def __init__(self, method, field, backend):
        self.layout, self.args, self.stats, f = field.layout, field.args, field.stats, field.f
        # A module that is made anew for every solve names the one inside that lasts.
        steps = Steps.of(getattr(f, "pynode_lasting", f))
        key = method.name, method.adaptive, backend, type(f), field.dtype, field.device, field.layout.key
        if key not in steps:
            make = _rosenbrock if isinstance(method, RosenbrockMethod) else _explicit
            attempt = make(method, f, self.layout)
            # A code object of its own: torch.compile counts its recompilations, and limits them, by these.
            attempt.__code__ = attempt.__code__.replace()
            steps[key] = torch.compile(attempt, fullgraph=True, dynamic=False, backend=backend)
            steps[key, "attempt"] = attempt  # until it was compared with
        self.function, self.stages = steps[key], method.tableau.stages
        self.unproven = (lambda: steps.pop((key, "attempt"))) if (key, "attempt") in steps else None

    def explicit(self, t, y, h, first):
        """(y1, error, stages) of a step; first: f(t, y) if it is known."""
        self.stats.nfe += self.stages - (first is not None)
        return self._run(t, h, y, first)

    def rosenbrock(self, t, y, h):
        """(y1, error, stages u) of a step."""
        self.stats.nfe += self.stages
        self.stats.nsolve += self.stages
        self.stats.njac += 1
        self.stats.nlu += 1
        return self._run(t, h, y)[:3]

    def _run(self, t, h, y, *more):
        t, h = (torch.scalar_tensor(x, dtype=y.dtype, device=y.device) for x in (t, h))
        try:
            if self.unproven is not None:
                _compare(self.function, self.unproven(), t, h, y, more, self.args)
                self.unproven = None
            return self.function(t, h, y, *more, self.args)
        except Exception as error:
            if type(error).__module__.split(".")[:2] not in (["torch", "_dynamo"], ["torch", "_inductor"]):
                raise
            said = str(error).strip().splitlines()
            raise ValueError(
                "the steps cannot be compiled: f must be one graph of torch operations, without branches on values, RejectStep "
                "or calls into NumPy, and a C++ compiler be there; leave compile away "
                f"({said[0] if said else type(error).__name__})"
            ) from error


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
        # Columns of df/dy and df/dt, by forward mode: in reverse mode a gather becomes a sum over repeated indices, of which
        # torch 2.13's compiler loses parts on a CPU.
        times = torch.cat((torch.zeros_like(y), t.new_ones(1)))
        states = torch.cat((eye, torch.zeros_like(eye[:1])))
        columns = torch.func.vmap(lambda dt, dy: torch.func.jvp(field, (t, y), (dt, dy))[1])(times, states)
        jac, slope = columns[:-1].t(), columns[-1]
        return *method.attempt(field, t, y, h, slope, solver(eye - (h * method.numbers[0]) * jac)), jac

    return attempt


def _compare(function, attempt, t, h, y, more, args):
    """ValueError where a compiled step is not the step: compilers have bugs, and this one would go unnoticed.

    At a state with no zeros, at which all of the Jacobian shows.
    """
    near = torch.cos(torch.arange(len(y), dtype=y.dtype, device=y.device)) * 0.1
    y = y + near * (y.abs() + y.abs().mean() + 1e-3)
    with torch.inference_mode(False), torch.no_grad():
        inputs = [None if x is None else x.clone() for x in (t, h, y, *more)]
        found, expected = _flat(function(*inputs, args)), _flat(attempt(*inputs, args))
    tol = 1e-3 if y.dtype == torch.float32 else 1e-8
    rounding = 1e3 * torch.finfo(y.dtype).eps * float(y.abs().max())
    for a, b in zip(found, expected, strict=True):
        size = float(b.abs().max())
        if not torch.allclose(a, b, rtol=tol, atol=tol * size + rounding, equal_nan=True):
            raise ValueError(
                f"torch.compile makes steps on this field that are wrong, by {float((a - b).abs().max()) / size:.1g} of their "
                "size: leave compile away, or name another backend, compile='aot_eager'"
            )


def _flat(outputs):
    """The tensors among the outputs of a step."""
    return [x for out in outputs if out is not None for x in (out if isinstance(out, (list, tuple)) else (out,))]
