"""Tasks of pypesto's engines that keep their results on disk, with progress and interruption. It
needs pypesto."""

from __future__ import annotations

import json
import logging
import multiprocessing
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pypesto.engine

from ..core.files import save_text
from .pypesto_objective import Stopped

POLL = 0.1  # seconds between two looks at the folder
STOP = "stop"  # the name of the file that ends the tasks


class KeptTask(pypesto.engine.Task):
    """A task of pypesto that writes its result to a file as soon as it has one.

    plain(result) -> what JSON can hold. stop: no task begins once this file exists. The result is
    None where it was stopped.
    """

    def __init__(
        self, task: Any, path: Path, plain: Callable[[Any], dict[str, Any]], stop: Path
    ) -> None:
        super().__init__()
        self.task = task
        self.path = path
        self.plain = plain
        self.stop = stop

    def execute(self) -> Any:
        """Run the task, unless the estimation was stopped."""
        if multiprocessing.parent_process() is not None:
            # Ctrl-C reaches all processes of a terminal. The first one tells the others.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.stop.exists():
            return None
        try:
            result = self.task.execute()
        except Stopped:
            return None
        save_text(self.path, json.dumps(self.plain(result)))
        return result


class KeepingEngine(pypesto.engine.Engine):
    """An engine of pypesto whose tasks keep their results.

    path(task) -> the file of a task's result; plain: as for KeptTask; stop: the file that ends
    them. shown(path) is called for each new file.
    """

    def __init__(
        self,
        engine: Any,
        path: Callable[[Any], Path],
        plain: Callable[[Any], dict[str, Any]],
        stop: Path,
        shown: Callable[[Path], None],
    ) -> None:
        super().__init__()
        self.engine = engine
        self.path = path
        self.plain = plain
        self.stop = stop
        self.shown = shown

    def execute(self, tasks: Sequence[Any], progress_bar: bool | None = None) -> list[Any]:
        """The results of the tasks. Raises Stopped after a KeyboardInterrupt; the files have what
        was ready."""
        interrupted = False
        kept = [KeptTask(task, self.path(task), self.plain, self.stop) for task in tasks]
        waiting = [task.path for task in kept]
        outcome: dict[str, Any] = {"results": []}
        # Not Thread.join: after a signal it can take a living thread for a dead one (Python 3.11).
        ended = threading.Event()

        def work() -> None:
            try:
                with quiet():
                    outcome["results"] = self.engine.execute(kept, progress_bar=False)
            except BaseException as error:  # it is raised again in the first thread
                outcome["error"] = error
            finally:
                ended.set()

        # The first thread gets the signals: it waits for them, while the second one works.
        worker = threading.Thread(target=work, name="pynode-fit")
        worker.start()
        while not ended.is_set():
            try:
                ended.wait(POLL)
                waiting = self._report(waiting)
            except KeyboardInterrupt:
                interrupted = True
                self.stop.touch()
        self._report(waiting)
        error = outcome.get("error")
        if interrupted:
            raise Stopped
        if error is not None:
            raise error
        return outcome["results"]

    def _report(self, waiting):
        left = []
        for path in waiting:
            if path.exists():
                self.shown(path)
            else:
                left.append(path)
        return left


@contextmanager
def quiet() -> Iterator[None]:
    """Context in which pypesto prints only warnings."""
    logger = logging.getLogger("pypesto")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def folder(out: str | Path | None) -> Iterator[Path]:
    """The folder of the results: ``out``, or a temporary one, without the stop of an earlier
    run."""
    if out is not None:
        place = Path(out)
        place.mkdir(parents=True, exist_ok=True)
        (place / STOP).unlink(missing_ok=True)
        try:
            yield place
        finally:
            (place / STOP).unlink(missing_ok=True)
        return
    with tempfile.TemporaryDirectory(prefix="pynode-fit-") as name:
        yield Path(name)


def engine(processes: int | str) -> Any:
    """pypesto's engine: one process, several, or 'mpi' for those of mpiexec.

    Raises ValueError for anything else, ImportError where mpi4py is missing.
    """
    if isinstance(processes, pypesto.engine.Engine):
        return processes
    if processes == "mpi":
        try:
            from pypesto.engine.mpi_pool import MPIPoolEngine
        except ImportError as error:
            raise ImportError(
                f"processes='mpi' needs mpi4py ({error}): pip install mpi4py, and an MPI library"
            ) from None
        return MPIPoolEngine()
    if not isinstance(processes, int) or processes < 1:
        raise ValueError(f"processes is a number from 1 on or 'mpi', not {processes!r}")
    if processes == 1:
        return pypesto.engine.SingleCoreEngine()
    # Not by fork: threads of torch and of compiled code do not survive it.
    return pypesto.engine.MultiProcessEngine(processes, method="spawn")
