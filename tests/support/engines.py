"""The engines that run the contract (tests/contract).

Each engine solves one system f(t, y) and answers with an Outcome, so that one test serves all of
them. ``refuses`` says which features an engine refuses today, with the true reason and the words
that its error must have.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import pytest
import torch
from torch.utils._pytree import tree_map

from pynode import Event, JuliaBackend, PresetTimes, solve
from pynode.adjoints.julia import NATIVE
from pynode.backends.julia.runtime import start
from pynode.backends.julia.setup.locate import locate
from pynode.backends.julia.setup.versions import OPTIONS


class Refusal(NamedTuple):
    """A feature that an engine refuses. words: what its error must name."""

    reason: str
    words: tuple

    def check(self, error):
        missing = [word for word in self.words if word not in str(error)]
        assert not missing, f"the error does not name {missing}: {error}"


@dataclass(frozen=True)
class Outcome:
    """What a solve of one system has found. t: (T,) times reached; y: outputs with a leading
    dimension T; reached: the time where the solve ended."""

    t: torch.Tensor
    y: object
    status: object
    message: str
    stats: object
    events: list
    reached: float
    solution: object


class Single:
    """The torch engine for one system. model_options: those of a model on this engine."""

    refuses: ClassVar[dict] = {}
    model_options: ClassVar[dict] = {}

    def require(self):
        """Skip the test where the engine is not installed."""

    def require_package(self, option):
        """Skip the test where an optional package of the engine is not installed."""

    def require_adjoint(self, name):
        """Skip the test where a package that the adjoint needs is not installed."""

    def solve(self, f, y0, t, **options) -> Outcome:
        solution = solve(f, y0, t, **options)
        return Outcome(
            t=solution.t,
            y=solution.y,
            status=solution.status,
            message=solution.message,
            stats=solution.stats,
            events=solution.events,
            reached=solution.reached,
            solution=solution,
        )


class Rows:
    """The torch engine for rows, with a batch of one row."""

    refuses: ClassVar[dict] = {
        "RejectStep": Refusal("an exception does not name its row", ("RejectStep", "batched")),
        "dense": Refusal("rows keep no polynomials", ("batched", "dense")),
        "jac": Refusal("the engine makes the Jacobians of all rows at once", ("batched", "jac")),
        "mass": Refusal("rows are small dense systems", ("batched", "mass")),
        "structure": Refusal("rows are small dense systems", ("batched", "dense")),
        "direct": Refusal("rows have the discrete adjoint only", ("batched", "adjoint")),
        "checkpoints": Refusal("rows keep all steps", ("batched", "checkpoints")),
    }

    def require(self):
        """torch is always there."""

    def solve(
        self, f, y0, t, *, args=(), events=(), callback=None, domain=None, **options
    ) -> Outcome:
        if isinstance(events, (Event, PresetTimes)) or callable(events):
            events = [events]
        batch = solve(
            by_rows(f, args),
            tree_map(lambda part: part.unsqueeze(0), y0),
            t,
            batched=True,
            events=[event_by_rows(event, args) for event in events],
            callback=callback and callback_by_rows(callback),
            domain=domain and domain_by_rows(domain),
            **options,
        )
        times = batch.t[:, 0]
        direction = torch.sign(times[-1] - times[0])
        count = int((direction * (times - batch.reached[0]) <= 0).sum())
        return Outcome(
            t=times[:count],
            y=tree_map(lambda part: part[:count, 0], batch.y),
            status=batch.statuses[0],
            message=batch.message,
            stats=batch.stats,
            events=batch.events[0],
            reached=batch.reached[0],
            solution=batch,
        )


class Native(Single):
    """The native engine, with compiled code for f and the loop."""

    model_options: ClassVar[dict] = {"backend": "native"}
    refuses: ClassVar[dict] = {
        "RejectStep": Refusal("f raises where it tests a value", ("backend",)),
        "python": Refusal("only operations of torch become native code", ("backend",)),
        "jac": Refusal("the engine makes the Jacobian itself", ("jac", "native")),
        "structure": Refusal("the engine has dense Jacobians", ("jacobian", "native")),
        "direct": Refusal("torch does not see the native loop", ("adjoint", "native")),
    }

    def solve(self, f, y0, t, **options) -> Outcome:
        return super().solve(f, y0, t, backend="native", **options)


class NativeRows(Rows):
    """The native engine for rows, with a batch of one row."""

    refuses: ClassVar[dict] = {
        **{name: refusal for name, refusal in Rows.refuses.items() if name != "mass"},
        "RejectStep": Native.refuses["RejectStep"],
        "python": Native.refuses["python"],
        "structure": Native.refuses["structure"],
        "direct": Native.refuses["direct"],
    }

    def solve(self, f, y0, t, **options) -> Outcome:
        return super().solve(f, y0, t, backend="native", **options)


class Julia(Single):
    """SciML's solvers, by NativeGauss where a test asks for the default adjoint.

    hooks: of JuliaBackend. 'auto' gives Julia native functions of every field that has them.
    """

    model_options: ClassVar[dict] = {"backend": "julia", "adjoint": NATIVE}
    refuses: ClassVar[dict] = {
        "direct": Refusal("torch does not see Julia's loop", ("adjoint", "backend")),
        "checkpoints": Refusal("Julia records no steps for torch", ("adjoint", "backend")),
        "controller": Refusal("SciML has controllers of its own", ("controller", "backend")),
    }

    def __init__(self, hooks):
        self.backend = JuliaBackend(hooks=hooks)

    def require(self):
        found = locate()
        if not found.ready:
            pytest.skip(f"no Julia: {found.problem}")

    def require_package(self, option):
        name = OPTIONS[option]
        if not start().loads(name):
            pytest.skip(
                f"the Julia package {name} is not in the project: pynode julia install --{option}"
            )

    def require_adjoint(self, name):
        if name == "interpolating":
            self.require_package("sensitivity")

    def solve(self, f, y0, t, **options) -> Outcome:
        if options.get("adjoint", "auto") in ("auto", "discrete"):
            options["adjoint"] = NATIVE
        return super().solve(f, y0, t, backend=self.backend, **options)


ENGINES = {
    "single": Single(),
    "rows": Rows(),
    "native": Native(),
    "native rows": NativeRows(),
    "julia": Julia("auto"),
    "julia python": Julia("python"),
}


def by_rows(function, args=()):
    """A function of one system as a function of rows: t (m, 1, ...), y (m, ...)."""

    def called(t, y, *_):
        clocks = t.reshape(len(t), -1)[:, 0]
        if len(t) == 1:
            one = function(clocks[0], tree_map(lambda part: part[0], y), *args)
            return tree_map(lambda part: part.unsqueeze(0), one)
        found = [
            function(clock, tree_map(lambda part, i=i: part[i], y), *args)
            for i, clock in enumerate(clocks)
        ]
        return tree_map(lambda *parts: torch.stack(parts), *found)

    called.__name__ = getattr(function, "__name__", type(function).__name__)
    return called


def callback_by_rows(callback):
    """A callback of one system as a callback of a batch with one row."""

    def called(t, y, stats):
        return callback(float(t[0]), tree_map(lambda part: part[0], y), stats)

    return called


def domain_by_rows(domain):
    """A domain of one system as a domain of rows."""

    def called(t, y):
        clocks = t.reshape(len(t), -1)[:, 0].tolist()
        return torch.tensor(
            [
                bool(domain(clock, tree_map(lambda part, i=i: part[i], y)))
                for i, clock in enumerate(clocks)
            ]
        )

    return called


def event_by_rows(event, args):
    """An event of one system as an event of rows."""
    if isinstance(event, PresetTimes):
        return replace(event, reset=by_rows(event.reset, args))
    if not isinstance(event, Event):
        return by_rows(event, args)
    reset = None if event.reset is None else by_rows(event.reset, args)
    return replace(event, condition=by_rows(event.condition, args), reset=reset)
