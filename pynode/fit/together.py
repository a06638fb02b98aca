"""Starts of one process that run side by side, so that their evaluations are one batch.

Each start has a thread. A start that needs a value waits until all running starts wait, too. Then
one thread evaluates all of them as one batch. The optimisers themselves run one after the other,
because Python lets one thread run at a time. It needs pypesto.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pypesto.engine
import torch
from torch import Tensor

from .protocol import EstimationProblem

MOST = 32  # starts side by side
# What a start can ask for, and the method that answers for many.
BATCHES = {
    "objective": "objective_batch",
    "gradient": "gradient_batch",
    "gauss_newton": "gauss_newton_batch",
}


class _Request:
    """A question of one start. answer: the value, or an exception."""

    def __init__(self, kind: str, theta: Tensor) -> None:
        self.kind = kind
        self.theta = theta
        self.answer: Any = None
        self.seconds = 0.0


class SharedProblem:
    """An estimation problem for starts in several threads. Everything else than the objective and
    its derivatives is that of the problem itself."""

    def __init__(self, problem: EstimationProblem) -> None:
        self.problem = problem
        self._changed = threading.Condition()
        self._running = 0
        self._requests: list[_Request] = []
        self._own = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.problem, name)

    @contextmanager
    def start(self) -> Iterator[None]:
        """Context of a thread that runs a start."""
        with self._changed:
            self._running += 1
        # What the clock of the thread shows too much, because it evaluates for others.
        self._own.excess = 0.0
        self._own.begin = time.thread_time()
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def seconds(self) -> float:
        """The processor time of the start of this thread, with its share in the batches."""
        return time.thread_time() - self._own.begin - self._own.excess

    def objective(self, theta: Tensor) -> Tensor:
        """As the problem's, without a graph."""
        return self._asked("objective", theta)

    def gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """As the problem's."""
        return self._asked("gradient", theta)

    def gauss_newton(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As the problem's."""
        return self._asked("gauss_newton", theta)

    def _asked(self, kind: str, theta: Tensor) -> Any:
        request = _Request(kind, theta)
        begin = time.thread_time()
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()
            while request.answer is None:
                if len(self._requests) >= self._running:
                    self._answer()
                    self._changed.notify_all()
                else:
                    self._changed.wait()
        # The thread that evaluates the batch does so for all.
        self._own.excess += time.thread_time() - begin - request.seconds
        if isinstance(request.answer, BaseException):
            raise request.answer
        return request.answer

    def _answer(self) -> None:
        """Answer all requests, one batch for each kind."""
        requests = self._requests
        self._requests = []
        for kind, method in BATCHES.items():
            asked = [request for request in requests if request.kind == kind]
            if not asked:
                continue
            begin = time.thread_time()
            thetas = torch.stack([request.theta for request in asked])
            answers: Sequence[Any]
            try:
                with torch.no_grad():
                    found = getattr(self.problem, method)(thetas)
                answers = found
                if kind != "objective":
                    answers = list(zip(*found, strict=True))
            except BaseException as error:  # it is raised in the threads that asked
                answers = [error] * len(asked)
            share = (time.thread_time() - begin) / len(asked)
            for request, answer in zip(asked, answers, strict=True):
                request.answer = answer
                request.seconds = share


class TogetherEngine(pypesto.engine.Engine):
    """An engine of pypesto that runs its tasks side by side, for a SharedProblem that they have."""

    def __init__(self, problem: SharedProblem) -> None:
        super().__init__()
        self.problem = problem

    def execute(self, tasks: Sequence[Any], progress_bar: bool | None = None) -> list[Any]:
        """The results of the tasks, in their order. Raises the first error of a task."""
        # Tasks share an optimiser. A copy of a task shares the problem.
        tasks = [copy.deepcopy(task) for task in tasks]
        with ThreadPoolExecutor(min(MOST, len(tasks)), "pynode-start") as pool:
            return list(pool.map(self._run, tasks))

    def _run(self, task: Any) -> Any:
        with self.problem.start():
            return task.execute()
