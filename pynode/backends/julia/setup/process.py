"""Runs other processes with a time limit. A broken Julia cannot make pynode wait forever."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessResult:
    """How a process ended. code: its exit code, None if its time ran out, negative for the signal
    that killed it."""

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def end(self) -> str:
        """How it failed, in a few words."""
        if self.code is None:
            return f"did not end within {self.seconds:.0f} s"
        if self.code < 0:
            return f"was killed by {signal.Signals(-self.code).name}"
        lines = [line for line in self.err.strip().splitlines() if line.strip()]
        if not lines:
            return f"failed with exit code {self.code}"
        # The last line of a traceback holds the message, after the dotted name of the exception.
        return "failed: " + re.sub(r"^([a-z_]+[.])+[A-Za-z]+: ", "", lines[-1].strip()).rstrip(".")


def run(
    command: Sequence[str],
    limit: float,
    environment: Mapping[str, str | None] | None = None,
    waiting: Callable[[float], object] | None = None,
    every: float = 15.0,
) -> ProcessResult:
    """Run a command for at most limit seconds.

    environment: variables to add; None as a value removes one. waiting(seconds): called every
    so many seconds while the process runs. Raises OSError if the command cannot start.
    """
    merged = {**os.environ, **(environment or {})}
    env = {name: value for name, value in merged.items() if value is not None}
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=os.name != "nt",
    )
    with process:
        try:
            while True:
                left = limit - (time.monotonic() - began)
                try:
                    out, err = process.communicate(timeout=max(0.0, min(every, left)))
                    return ProcessResult(process.returncode, out, err, time.monotonic() - began)
                except subprocess.TimeoutExpired:
                    if left <= every:
                        _kill(process)
                        return ProcessResult(None, "", "", time.monotonic() - began)
                    if waiting is not None:
                        waiting(time.monotonic() - began)
        except BaseException:
            _kill(process)
            raise


def _kill(process: subprocess.Popen) -> None:
    """Kill the process and its children: Julia precompiles in child processes."""
    if os.name == "nt":
        process.kill()
    else:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def version(exe: str, limit: float = 60.0) -> str:
    """The version of a Julia executable, such as '1.10.8'; '' if it is not a Julia or does not
    answer."""
    try:
        finished = run([exe, "--version"], limit)
    except OSError:
        return ""
    answer = re.match(r"julia version (\d+\.\d+\.\d+)", finished.out)
    if finished.ok and answer:
        return answer[1]
    return ""
