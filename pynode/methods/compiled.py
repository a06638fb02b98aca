"""Whole steps as one compiled function: the field, its Jacobian and the stages fused, where launches cost more than sums.

One function serves every step and every solve: times, sizes, tolerances, states, args and parameters are its inputs. Gradients
take the recorded steps as ever.
"""

from __future__ import annotations

import contextlib
import logging
import weakref

import torch

from ..algebra.linear import INVERSE_BELOW, gauss_jordan
from .ahead import COUNT, attempts
from .explicit import ExplicitRungeKutta
from .rosenbrock import RosenbrockMethod

FAMILIES = (ExplicitRungeKutta, RosenbrockMethod)
# Up to this size Gauss-Jordan elimination, fused, takes half of the time of a call of LAPACK from compiled code.
UNROLLED = 8
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
    """Steps of one method on one field, many at a time (ahead.py) unless ahead is False. backend: of torch.compile."""

    def __init__(self, method, field, backend, ahead=True):
        self.field, self.method, self.backend, self.stats = field, method, backend, field.stats
        # On other devices a loop would wait for its end condition at every turn.
        self.count = COUNT if ahead and field.device.type == "cpu" else 1
        # A CUDA graph cannot hold the calls of a library that waits for the device, as its inverses do.
        unrolled = isinstance(method, ExplicitRungeKutta) or field.size <= UNROLLED
        self.graphed = backend == "inductor" and field.device.type == "cuda" and unrolled
        self.carried = isinstance(method, ExplicitRungeKutta) and method.tableau.fsal
        self.course = None
        self.y, self.rows, self.states, self.stages, self.position = None, [], (), (), 0
        self._make()

    def _make(self):
        method, field, f = self.method, self.field, self.field.f
        # A module that is made anew for every solve names the one inside that lasts.
        steps = Steps.of(getattr(f, "pynode_lasting", f))
        key = (
            method.name, method.adaptive, method.controller, self.count, self.backend,
            type(f), field.dtype, field.device, field.layout.key,
        )  # fmt: skip
        if key not in steps:
            attempt = (_rosenbrock if isinstance(method, RosenbrockMethod) else _explicit)(method, f, field.layout)
            block = attempts(attempt, method, self.count)
            # A code object of its own: torch.compile counts its recompilations, and limits them, by these.
            block.__code__ = block.__code__.replace()
            options = _options(self.backend, field.device, self.graphed)
            steps[key] = torch.compile(block, fullgraph=True, dynamic=False, backend=self.backend, options=options)
            steps[key, "attempt"] = attempt  # until it was compared with
        self.function = steps[key]
        self.unproven = (lambda: steps.pop((key, "attempt"))) if (key, "attempt") in steps else None

    def towards(self, stop, slack, longest):
        """Where the next steps end at the latest, how near to it (in steps) one is stretched to it, and the longest step."""
        self.course = stop, slack, longest

    def explicit(self, t, y, h, first, past, tol):
        """(y1, ratio of the error, stages (s, n)) of a step; first: f(t, y) if it is known."""
        self.stats.nfe += self.method.tableau.stages - (first is not None)
        return self._step(t, y, h, first, past, tol)

    def rosenbrock(self, t, y, h, past, tol):
        """(y1, ratio of the error, stages u (s, n)) of a step."""
        stages = self.method.tableau.stages
        self.stats.nfe += stages
        self.stats.nsolve += stages
        self.stats.njac += 1
        self.stats.nlu += 1
        return self._step(t, y, h, None, past, tol)

    def _step(self, t, y, h, first, past, tol):
        # That of the integrator is taken where it is the next one known, but for rounding, and from this very state.
        if y is not self.y or self.position == len(self.rows) or not _same(self.rows[self.position], t, h):
            self._run(t, y, h, first, past, tol)
        i = self.position
        self.position += 1
        ratio, y1 = self.rows[i][2], self.states[i].clone()  # a view would keep all of them
        if ratio <= 1:
            self.y = y1
        return y1, ratio, self.stages[i]

    def _run(self, t, y, h, first, past, tol):
        numbers = torch.tensor((t, h, *past, *self.course, tol.rtol), dtype=torch.float64).to(y.device)
        # Clones are of the mode of this solve, whoever made the originals: no other compilation for another mode.
        inputs = numbers, y.clone(), first.clone() if self.carried else None, tol.atol, self.field.args
        try:
            if self.unproven is not None:
                with _quiet():
                    _compare(self.function, self.unproven(), *inputs)
                self.unproven = None
            rows, states, stages = self.function(*inputs)
        except Exception as error:
            if type(error).__module__.split(".")[:2] not in (["torch", "_dynamo"], ["torch", "_inductor"]):
                raise
            if self.count > 1:  # what a loop cannot hold, such as a module that counts its calls, a single step may
                self.count = 1
                self._make()
                return self._run(t, y, h, first, past, tol)
            said = str(error).strip().splitlines()
            raise ValueError(
                "the steps cannot be compiled: f must be one graph of torch operations, without branches on values, RejectStep "
                "or calls into NumPy, and a C++ compiler be there; leave compile away "
                f"({said[0] if said else type(error).__name__})"
            ) from error
        if self.graphed:  # the next replay writes where this one wrote
            stages = stages.clone()
        self.rows, self.states, self.stages, self.position, self.y = rows.tolist(), states.unbind(0), stages.unbind(0), 0, y
        return None


def _same(row, t, h):
    return abs(row[0] - t) <= 1e-9 * abs(h) and abs(row[1] - h) <= 1e-12 * abs(h)


def _options(backend, device, graphed):
    """What the compiler is told beside the graph."""
    if backend != "inductor":
        return None
    return {"cpp_wrapper": True} if device.type == "cpu" else {"triton.cudagraphs": graphed}


@contextlib.contextmanager
def _quiet():
    """Inductor warns that LAPACK is called in a slower way than other operations; there is nothing to be done about it."""
    logger = logging.getLogger("torch._inductor.ir")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


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
        self.inverse = gauss_jordan(matrix) if len(matrix) <= UNROLLED else torch.linalg.inv_ex(matrix)[0]

    def solve(self, b, factor):
        return torch.mv(self.inverse, b) * factor


class _LU:
    def __init__(self, matrix):
        self.lu, self.pivots, _ = torch.linalg.lu_factor_ex(matrix)

    def solve(self, b, factor):
        return torch.linalg.lu_solve(self.lu, self.pivots, (b * factor).unsqueeze(1)).squeeze(1)


def _explicit(method, f, layout):
    method.rows, method.nodes, method.tableau.fsal  # noqa: B018  made before the compiler looks at them

    def attempt(t, h, y, first, args):
        return method.attempt(_Plain(f, layout, args), t, y, h, first)

    return attempt


def _rosenbrock(method, f, layout):
    method.rows, method.numbers  # noqa: B018  as above
    solver = _Inverse if layout.size < INVERSE_BELOW else _LU

    def attempt(t, h, y, first, args):
        field = _Plain(f, layout, args)
        eye = torch.eye(layout.size, dtype=y.dtype, device=y.device)
        # Columns of df/dy and df/dt, by forward mode: in reverse mode a gather becomes a sum over repeated indices, of which
        # torch 2.13's compiler loses parts on a CPU.
        times = torch.cat((torch.zeros_like(y), t.new_ones(1)))
        states = torch.cat((eye, torch.zeros_like(eye[:1])))
        columns = torch.func.vmap(lambda dt, dy: torch.func.jvp(field, (t, y), (dt, dy))[1])(times, states)
        jac, slope = columns[:-1].t(), columns[-1]
        return method.attempt(field, t, y, h, slope, solver(eye - (h * method.numbers[0]) * jac))

    return attempt


def _compare(function, attempt, numbers, y, first, atol, args):
    """ValueError where a compiled step is not the step: compilers have bugs, and this one would go unnoticed.

    From a state with no zeros, at which all of the Jacobian shows; every step by itself, from where the last one ended.
    """
    near = torch.cos(torch.arange(len(y), dtype=y.dtype, device=y.device)) * 0.1
    y = y + near * (y.abs() + y.abs().mean() + 1e-3)
    with torch.inference_mode(False), torch.no_grad():
        plain = [x if x is None else x.clone() for x in (numbers, y, first, atol)]
        if first is not None:
            zero = torch.zeros_like(plain[0][0])
            first = attempt(plain[0][0].to(y.dtype), zero.to(y.dtype), plain[1], None, args)[2][0]
    rows, ends, stages = function(numbers, y, None if first is None else first.clone(), atol, args)
    with torch.inference_mode(False), torch.no_grad():
        rows, ends, stages, rtol = rows.tolist(), ends.clone(), stages.clone(), float(plain[0][-1])
        y, atol = plain[1], plain[3]
        for (t, h, ratio), found, found_ks in zip(rows, ends, stages, strict=True):
            t, h = (torch.scalar_tensor(x, dtype=y.dtype, device=y.device) for x in (t, h))
            expected, error, ks = attempt(t, h, y, None, args)
            _agree(found, expected, y)
            _agree(found_ks, torch.stack(ks), y)
            scale = atol + rtol * torch.maximum(y.abs(), expected.abs())
            if error is not None:
                size = (error / scale).square().mean().sqrt()
                _agree(torch.as_tensor(ratio).to(size), size, y / scale, 1e-3)
            if ratio <= 1:
                y = found


def _agree(found, expected, y, tol=None):
    tol = tol or (1e-3 if y.dtype == torch.float32 else 1e-8)
    size, rounding = float(expected.abs().max()), 1e3 * torch.finfo(y.dtype).eps * float(y.abs().max())
    if not torch.allclose(found, expected, rtol=tol, atol=tol * size + rounding, equal_nan=True):
        raise ValueError(
            f"torch.compile makes steps on this field that are wrong, by {float((found - expected).abs().max()) / size:.1g} of "
            "their size: leave compile away, or name another backend, compile='aot_eager'"
        )
