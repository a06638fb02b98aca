"""The reference solve and its repeated steps in native code."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..backends.native.blocks import Blocks
from ..backends.native.engine import NativeSegment, check
from ..backends.native.fields import BoundField, native_field
from ..backends.native.prepared import Prepared
from ..backends.native.run import HISTORY, NO_FAILURE, RUNNING, STATUSES
from ..backends.native.solve import compiled, integrate
from ..core.options import Options
from ..core.status import Status
from ..core.vector_field import VectorField
from ..methods import registry
from .reference_solve import AttemptedStep, ChatterLimit, ReferenceSolve, reference_settings

TIMED = 200  # steps of an explicit method whose time is measured
# An atol that no error reaches: every step is accepted.
ANY = 1e30


class RecordingLoop:
    """Runs the compiled loop one attempt at a time, and appends each attempt to a list.

    rtol, atol: of the solve; atol (n,). attempts: the list. limits: end the solve.
    """

    def __init__(
        self, rtol: float, atol: np.ndarray, attempts: list[AttemptedStep], limits: ChatterLimit
    ) -> None:
        self.rtol = rtol
        self.atol = atol
        self.attempts = attempts
        self.limits = limits

    def __call__(self, plan: Prepared, numbers: np.ndarray, blocks: Blocks) -> None:
        run = numbers[0]
        last = int(run["pause"])
        while True:
            done = int(run["attempts"])
            run["pause"] = min(done + 1, last)
            compiled(plan, numbers, blocks)
            if run["attempts"] == done:
                return
            self._note(run, blocks)
            if run["status"] == RUNNING and self.limits.expired():
                run["status"] = STATUSES.index(Status.MAX_SECONDS)
            if run["status"] != RUNNING or run["attempts"] >= last:
                return

    def _note(self, run, blocks):
        place = (int(run["attempts"]) - 1) % HISTORY
        t, h, ratio, failure = blocks.of("history")[place].tolist()
        if failure != NO_FAILURE:
            self.attempts.append(AttemptedStep(t, h, float("inf"), False, None))
            return
        accepted = ratio <= 1.0
        start = blocks.of("y")
        if accepted:
            start = blocks.of("tape_y")[int(run["accepted"]) - 1]  # y is its end now
        size = np.maximum(np.abs(start), np.abs(blocks.of("y1")))
        scaled = np.abs(blocks.of("error")) / (self.atol + self.rtol * size)
        self.attempts.append(AttemptedStep(t, h, ratio, accepted, int(np.argmax(scaled))))


def solve_native_reference(
    field: VectorField,
    times: Sequence[float],
    y0: torch.Tensor,
    rtol: float,
    atol: torch.Tensor,
    max_steps: int,
    max_seconds: float,
) -> ReferenceSolve:
    """The ReferenceSolve of ``solve_reference`` by native code.

    Raises ValueError for an f or a problem that native code does not take. The time in which code
    is compiled does not count.
    """
    check(field)
    name, options, tol = reference_settings(field, rtol, atol, max_steps)
    bound = native_field(field, times[0], y0)
    method = registry.get(name)
    start = y0.detach().numpy()
    limits_of_errors = np.broadcast_to(atol.detach().numpy(), start.shape)
    attempts: list[AttemptedStep] = []

    def run(options: Options, dense: bool, deadline: float | None, loop: Callable | None) -> Any:
        return integrate(
            bound,
            method,
            start,
            list(times),
            options,
            limits_of_errors,
            dense=dense,
            deadline=deadline,
            loop=loop,
        )

    run(replace(options, max_steps=1), False, None, None)  # compiles the loop
    limits = ChatterLimit(field, max_seconds, attempts, times[-1], options.max_steps)
    loop = RecordingLoop(options.rtol, limits_of_errors, attempts, limits)
    began = time.perf_counter()
    solved = run(options, True, limits.deadline, loop)
    elapsed = time.perf_counter() - began
    if solved.status is not Status.MAX_SECONDS:
        # Without the record, which takes most of the time.
        began = time.perf_counter()
        run(options, False, limits.deadline, None)
        elapsed = time.perf_counter() - began
    path = NativeSegment(bound, solved, y0)
    if limits.chatters:
        path.status = Status.MAX_STEPS
    ends = solved.starts.tolist()
    ends.append(solved.t)
    states = np.concatenate((solved.states, solved.y[None]))
    return ReferenceSolve(
        method,
        ends,
        torch.from_numpy(states),
        attempts,
        path.status,
        path,
        tol,
        elapsed,
        solved.nfe,
        bound,
    )


def repeated_steps(reference: ReferenceSolve) -> Callable:
    """step(t, y, h): the state, (n,), after one step of the method of a native reference solve from
    y, (n,), whatever its error; None if the step could not be completed."""
    bound: BoundField = reference.bound
    atol = np.full(bound.n, ANY)

    def step(t: float, y: torch.Tensor, h: float) -> torch.Tensor | None:
        options = Options(rtol=1.0, first_step=abs(h), max_steps=1)
        solved = integrate(bound, reference.method, y.numpy(), [t, t + h], options, atol)
        if solved.accepted == 0:
            return None
        return torch.from_numpy(solved.y)

    return step


def timed_steps(reference: ReferenceSolve, name: str, h: float) -> tuple[float, float]:
    """(seconds for a step of the explicit method of this name, seconds for an evaluation of f), at
    the start of a native reference solve with steps of this size.

    The evaluation is what is left of a step by the number of its stages: at most so much.
    """
    bound: BoundField = reference.bound
    method = registry.get(name)
    t0 = reference.times[0]
    start = reference.states[0].numpy()
    atol = np.full(bound.n, ANY)
    options = Options(step_size=abs(h))
    times = [t0, t0 + TIMED * h]
    integrate(bound, method, start, times, options, atol)  # compiles the loop
    began = time.perf_counter()
    solved = integrate(bound, method, start, times, options, atol)
    taken = time.perf_counter() - began
    return taken / max(solved.accepted, 1), taken / max(solved.nfe, 1)
