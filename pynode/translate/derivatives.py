"""Records f and its derivatives: torch's own backward passes run inside the recording."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .graph import Graph, View
from .guard import guarded, plain_operations
from .recorder import Recorder, Substituted
from .refusal import TranslationRefused

# One recording at a time: it asks torch for the gradients of tensors that belong to the user.
_LOCK = threading.RLock()


@dataclass
class Point:
    """Where f is recorded: its state, its time, and the numbers of the other tensors.

    t: a tensor without axes. values: for the id of a tensor from outside the tensor in its place.
    """

    t: Tensor
    y: Tensor
    values: dict[int, Tensor]

    def replace(self, x: Tensor) -> Tensor:
        """A tensor with x's shape and strides and the numbers of this point."""
        value = self.values.get(id(x), x)
        place = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
        place.copy_(value.detach())
        return place


@dataclass
class Recording:
    """A graph, and the floating tensors from outside that it reads, in the order of use."""

    graph: Graph
    captured: list[Tensor]


@contextmanager
def _wanting_gradients(tensors: Sequence[Tensor]) -> Iterator[None]:
    """torch gives gradients in respect of these tensors, whether the user wants them or not."""
    changed = [x for x in tensors if not x.requires_grad]
    for x in changed:
        x.requires_grad_()
    try:
        yield
    finally:
        for x in changed:
            x.requires_grad_(False)


def record_value(
    f: Callable[..., Any],
    point: Point,
    args: tuple,
    tables: Collection[int] = (),
    outputs: int | None = None,
) -> Recording:
    """f alone. tables: see Recorder. outputs: how many numbers it returns; None for as many as the
    state has."""
    recorder = Recorder(point.y.dtype, point.replace, tables)
    y = point.y.detach().clone()
    t = point.t.detach().clone()
    recorder.declare(t, "t")
    recorder.declare(y, "y")
    with _LOCK, torch.no_grad(), plain_operations(), guarded(), recorder:
        out = f(t, y, *args)
    _check(out, y, outputs)
    recorder.graph.results["f"] = [recorder.view(out)]
    return Recording(recorder.graph, recorder.captured)


def _check(out: Any, y: Tensor, outputs: int | None = None) -> None:
    shape = tuple(y.shape)
    wanted = f"the state's shape {shape}"
    if outputs is not None:
        shape = (outputs,)
        wanted = f"shape {shape}"
    if not isinstance(out, Tensor) or tuple(out.shape) != shape:
        found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise TranslationRefused(f"f must return a tensor of {wanted}, but returns {found}.")
    if out.dtype != y.dtype:
        raise TranslationRefused(
            f"f returns {out.dtype}, but its state has type {y.dtype}. Return the state's type."
        )


def record_derivatives(
    f: Callable[..., Any],
    point: Point,
    args: tuple,
    targets: Sequence[Tensor],
    twice: bool,
    tables: Collection[int] = (),
) -> Recording:
    """f and its products with the Jacobians; twice: also those that need a second derivative.
    tables: see Recorder.

    The results by name: f; vjp, vjp_p, vjp_time: of the cotangent w. With twice: jvp: df/dy u;
    jvp_p: df/dp q; jvp_time: df/dt; second_y, second_p, second_t: the gradient of
    w^T [(df/dy) u + s df/dt].
    """
    recorder = Recorder(point.y.dtype, point.replace, tables)
    y = point.y.detach().clone().requires_grad_()
    t = point.t.detach().clone().requires_grad_()
    recorder.declare(t, "t")
    recorder.declare(y, "y")
    vectors = Vectors.drawn(y, targets)
    recorder.declare(vectors.w, "w")
    recorder.declare(vectors.u, "u")
    recorder.declare(vectors.s, "s")
    start = 0
    for x in vectors.q:
        recorder.declare(x, "q", start)
        start += x.numel()
    with _recording(targets), guarded(), recorder:
        results = _products(f, t, y, args, targets, vectors, twice)
    sizes = _sizes(y, targets)
    recorder.graph.results = _views(recorder, results, sizes)
    return Recording(recorder.graph, recorder.captured)


@contextmanager
def _recording(targets: Sequence[Tensor]) -> Iterator[None]:
    """torch differentiates; what it cannot differentiate is refused."""
    with _refusing(), _wanting_gradients(targets), torch.enable_grad(), plain_operations():
        yield


@contextmanager
def _refusing() -> Iterator[None]:
    """Refuse what torch cannot evaluate."""
    with _LOCK:
        try:
            yield
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise TranslationRefused(
                f"torch could not evaluate or differentiate f as native code needs it: {reason[0]}"
            ) from error


def evaluate_value(
    f: Callable[..., Any], point: Point, args: tuple, targets: Sequence[Tensor], outputs: int
) -> dict[str, Tensor]:
    """The result of record_value at a point, as torch computes it: {"f": (outputs,)}."""
    y = point.y.detach().clone()
    t = point.t.detach().clone()
    with _refusing(), torch.no_grad(), Substituted(point.replace, list(targets)):
        out = f(t, y, *args)
    _check(out, y, outputs)
    return {"f": out.detach()}


def evaluate(
    f: Callable[..., Any],
    point: Point,
    args: tuple,
    targets: Sequence[Tensor],
    vectors: Vectors,
    twice: bool,
) -> dict[str, Tensor]:
    """The results of record_derivatives at a point, as torch computes them: flat tensors."""
    y = point.y.detach().clone().requires_grad_()
    t = point.t.detach().clone().requires_grad_()
    with _recording(targets), Substituted(point.replace, list(targets)):
        results = _products(f, t, y, args, targets, vectors, twice)
    sizes = _sizes(y, targets)
    values = {}
    for name, tensors in results.items():
        parts = [
            torch.zeros(size, dtype=y.dtype) if x is None else x.detach().reshape(-1)
            for x, size in zip(tensors, sizes[name])
        ]
        values[name] = torch.cat([torch.zeros(0, dtype=y.dtype), *parts])
    return values


def _products(
    f: Callable[..., Any],
    t: Tensor,
    y: Tensor,
    args: tuple,
    targets: Sequence[Tensor],
    vectors: Vectors,
    twice: bool,
) -> dict[str, list[Tensor | None]]:
    out = f(t, y, *args)
    _check(out, y)
    wanted = [y, *targets, t]
    first = _gradients([(out, vectors.w)], wanted, twice)
    results: dict[str, list[Tensor | None]] = {"f": [out]}
    _store(results, first, "vjp", "vjp_p", "vjp_time")
    if twice:
        _add_second(results, first, wanted, vectors)
    return results


@dataclass
class Vectors:
    """The further vectors of the products: cotangent w, directions u of y, s of t, q of targets."""

    w: Tensor
    u: Tensor
    s: Tensor
    q: list[Tensor]

    @classmethod
    def drawn(cls, y: Tensor, targets: Sequence[Tensor], seed: int = 1) -> Vectors:
        """Random numbers between 0.5 and 1.5."""
        generator = torch.Generator().manual_seed(seed)

        def draw(shape: Any) -> Tensor:
            return torch.rand(shape, dtype=y.dtype, generator=generator) + 0.5

        w = draw(y.shape).requires_grad_()
        return cls(w, draw(y.shape), draw(()), [draw(x.shape) for x in targets])

    def multiplied(self, left: float, right: float) -> Vectors:
        """The cotangent times one number, the directions times another."""
        return Vectors(left * self.w, right * self.u, right * self.s, [right * x for x in self.q])


def _gradients(
    pairs: Sequence[tuple[Tensor | None, Tensor]], wanted: list[Tensor], graph: bool
) -> list[Tensor | None]:
    """The gradient of the sum of the scalar products of these pairs.

    It is taken of one number, since torch imports sympy to look at given cotangents.
    """
    usable = [(x, v) for x, v in pairs if x is not None and x.requires_grad]
    if not usable:
        return [None] * len(wanted)
    total = functools.reduce(torch.add, [(x * v).sum() for x, v in usable])
    return list(
        torch.autograd.grad(total, wanted, create_graph=graph, retain_graph=True, allow_unused=True)
    )


def _store(results: dict, gradients: list[Tensor | None], *names: str) -> None:
    results[names[0]] = [gradients[0]]
    results[names[1]] = gradients[1:-1]
    results[names[2]] = [gradients[-1]]


def _add_second(
    results: dict, first: list[Tensor | None], wanted: list[Tensor], vectors: Vectors
) -> None:
    along: list[tuple[Tensor | None, Tensor]] = [(first[0], vectors.u), (first[-1], vectors.s)]
    _store(results, _gradients(along, wanted, False), "second_y", "second_p", "second_t")
    results["jvp"] = _gradients(along[:1], [vectors.w], False)
    one = torch.ones_like(vectors.s)
    results["jvp_time"] = _gradients([(first[-1], one)], [vectors.w], False)
    results["jvp_p"] = _gradients(list(zip(first[1:-1], vectors.q)), [vectors.w], False)


def _sizes(y: Tensor, targets: Sequence[Tensor]) -> dict[str, list[int]]:
    state = [y.numel()]
    parameters = [x.numel() for x in targets]
    sizes = {name: state for name in ("f", "vjp", "second_y", "jvp", "jvp_p", "jvp_time")}
    sizes.update({name: parameters for name in ("vjp_p", "second_p")})
    sizes.update({name: [1] for name in ("vjp_time", "second_t")})
    return sizes


def _views(
    recorder: Recorder, results: dict[str, list[Tensor | None]], sizes: dict[str, list[int]]
) -> dict[str, list[View]]:
    views = {}
    for name, tensors in results.items():
        views[name] = [
            recorder.zeros(size) if x is None else recorder.view(x)
            for x, size in zip(tensors, sizes[name])
        ]
    return views
