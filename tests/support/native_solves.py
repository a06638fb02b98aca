"""Solves by the native engine and by the torch engine, side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pynode import methods, problems, solve
from pynode.adjoints.discrete.adjoint import DiscreteAdjoint
from pynode.backends.torch.checkpoints import Recording
from pynode.core.norm import Tolerance
from pynode.core.options import Options
from pynode.core.trajectory import Trajectory
from pynode.methods.base import Step
from pynode.methods.bdf.formulas import ValueHistory
from pynode.methods.bdf.step import BDF
from pynode.methods.esdirk import DIRK
from pynode.methods.radau import Radau

from .cases import field_of

pytest.importorskip("numba")
pytest.importorskip("llvmlite")

from pynode.adjoints.native.pullback import pullback
from pynode.backends.native import bdf_history, newton
from pynode.backends.native.solve import integrate
from pynode.translate.field import translate

# Of all families of native methods.
FAMILIES = ["Tsit5", "Rodas5P", "KenCarp4", "RadauIIA5", "QNDF", "FBDF"]
VARIANTS = ["DP8", "BS3", "Rosenbrock23", "SDIRK2", "ABDF2"]


class Forced(nn.Module):
    """Two states, with a right-hand side that depends on time, and three parameters."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.k = nn.Parameter(torch.tensor([1.0, 0.5, 3.0], dtype=dtype))

    def forward(self, t, y):
        k = self.k
        first = -k[0] * y[0] * torch.exp(torch.sin(k[2] * t)) + y[1] * t
        second = k[1] * y[0] ** 2 - torch.cos(t) * y[1] - y[1] ** 3
        return torch.stack([first, second])


class Network(nn.Module):
    """Tanh layers 3-16-3 with a decay."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Linear(3, 16).double()
        self.second = nn.Linear(16, 3).double()
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(0.4 * torch.randn(p.shape, generator=generator, dtype=torch.float64))

    def forward(self, t, y):
        return self.second(torch.tanh(self.first(y))) - y


def forced():
    """(f, y0, times) of Forced."""
    return Forced(), torch.tensor([1.0, 0.5], dtype=torch.float64), _grid(0.0, 4.0, 9)


def network():
    """(f, y0, times) of Network."""
    return Network(), torch.tensor([1.0, -0.5, 0.2], dtype=torch.float64), _grid(0.0, 5.0, 7)


def literature(name):
    """(f, y0, times) of a problem of pynode.problems."""
    problem = problems.get(name)
    if problem.t_eval is not None:
        return problem.field, problem.y0, problem.t_eval
    return problem.field, problem.y0, _grid(*problem.tspan, 12)


def _grid(start, end, count):
    return torch.linspace(start, end, count, dtype=torch.float64)


def native(f, y0, times, method, atol=1e-9, loop=None, extra=None, origin=None, **options):
    """The NativeTrajectory of a solve. method: a name or a method. options: of
    core/options.Options. extra: arguments of integrate. origin: the time near which the native
    functions are compared with f, by default the start."""
    field = translate(f, y0, float(times[0]) if origin is None else origin)
    chosen = method
    if isinstance(method, str):
        chosen = getattr(methods, method)()
    return integrate(
        field,
        chosen,
        y0.detach().numpy(),
        times.tolist(),
        Options(**options),
        np.asarray(atol),
        loop=loop,
        **(extra or {}),
    )


def both(f, y0, times, method, **options):
    """(Solution of the torch engine, NativeTrajectory)."""
    with torch.no_grad():
        reference = solve(f, y0, times, method=method, throw=False, **options)
    return reference, native(f, y0, times, method, **options)


def assert_equal_solves(reference, trajectory, tolerance=1e-9):
    """The same steps, the same end, and equal states."""
    stats = reference.stats
    assert trajectory.status is reference.status
    assert (trajectory.accepted, trajectory.rejected) == (stats.accepted, stats.rejected)
    assert_close(trajectory.outputs, reference.y, tolerance)


def assert_close(actual, expected, tolerance):
    """Arrays or tensors are equal to a fraction of their largest value."""
    expected = np.asarray(expected.detach() if isinstance(expected, torch.Tensor) else expected)
    assert actual.shape == expected.shape
    size = np.abs(expected).max(initial=1e-300)
    assert np.abs(actual - expected).max(initial=0.0) <= tolerance * size


def random_like(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def same_gradients(f, y0, times, method, tolerance, loop=None, **options):
    """Assert that both engines give the same cotangents on the native steps. Returns (trajectory,
    NativeGradient)."""
    trajectory = native(f, y0, times, method, extra={"record": True}, **options)
    assert trajectory.status.success
    grads = random_like((len(times), len(y0)))
    field = translate(f, y0, float(times[0]))
    result = pullback(field, trajectory, times.tolist(), grads.numpy(), loop=loop)
    ybar, params = torch_pullback(f, y0, times, method, trajectory, grads)
    assert_close(result.y0, ybar, tolerance)
    names = {id(p): p for p in f.parameters()}
    assert {id(target) for target in field.targets} >= set(names)
    by_target = {id(field.targets[i]): g for i, g in zip(field.differentiable, result.targets)}
    for p, expected in zip(f.parameters(), params, strict=True):
        assert_close(by_target[id(p)], expected, tolerance)
    return trajectory, result


def torch_pullback(f, y0, times, method, trajectory, grads):
    """The discrete adjoint of the torch engine on the steps of a NativeTrajectory: (cotangent of
    y0, list for the parameters)."""
    field = field_of(f, y0)
    chosen = getattr(methods, method)()
    tolerance = Tolerance(1e-6, torch.tensor(1e-9, dtype=y0.dtype), len(y0))
    path = Trajectory(trajectory.t0, y0, None, trajectory.h0)
    path.times = times.tolist()
    path.recording = Recording(field, chosen, tolerance)
    states = torch.from_numpy(np.concatenate((trajectory.states, trajectory.y[None])))
    for k in range(trajectory.accepted):
        t = float(trajectory.starts[k])
        h = float(trajectory.sizes[k])
        tape = _tape(chosen, trajectory, k)
        step = Step(t, h, states[k], states[k + 1], 0.0, 1.0, None, tape)
        path.recording.starts.append(t)
        path.recording.sizes.append(h)
        path.recording.steps.append(step)
    path.t = path.end = trajectory.t
    return DiscreteAdjoint().pullback(field, chosen, path, times.tolist(), grads, Options())


def _tape(method, trajectory, k):
    """Step.tape of the torch engine for a recorded native step."""
    stages = torch.from_numpy(trajectory.stages[k])
    if isinstance(method, BDF):
        numbers = trajectory.numbers[k]
        order = int(numbers[bdf_history.TAKEN])
        nodes = tuple(numbers[bdf_history.NODES : bdf_history.NODES + order + 1].tolist())
        form = method.history
        change = None
        if numbers[bdf_history.RATIO]:
            like = torch.zeros(form.rows, 1, dtype=torch.float64)
            change = form.rescale(like, (), order, numbers[bdf_history.RATIO])[2]
        weights = form.reading(order)
        if isinstance(form, ValueHistory):
            weights = form._read(nodes, order)
        return order, numbers[newton.C], change, torch.from_numpy(weights), None, nodes[:order]
    if isinstance(method, DIRK):
        return None, list(stages[: method.tableau.stages])
    if isinstance(method, Radau):
        return stages
    if method.implicit:
        return list(stages)
    return None
