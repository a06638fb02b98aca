"""Other processes with a limit on their time: whatever is broken in a Julia, nothing waits for it
for ever."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Done:
    """How a process ended. code: None where its time was up; negative for the signal that killed
    it."""

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
        said = [line for line in self.err.strip().splitlines() if line.strip()]
        if not said:
            return f"failed with exit code {self.code}"
        # A traceback's end.
        return "failed: " + re.sub(r"^([a-z_]+[.])+[A-Za-z]+: ", "", said[-1].strip()).rstrip(".")


def run(command, limit, environment=None, waiting=None, every=15.0) -> Done:
    """Run a command for at most limit seconds, with variables added to the environment (None
    removes one).

    waiting(seconds): called every so many seconds meanwhile. OSError where the command cannot be
    started.
    """
    env = {**os.environ, **(environment or {})}
    env = {name: value for name, value in env.items() if value is not None}
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
                    return Done(process.returncode, out, err, time.monotonic() - began)
                except subprocess.TimeoutExpired:
                    if left <= every:
                        _end(process)
                        return Done(None, "", "", time.monotonic() - began)
                    if waiting is not None:
                        waiting(time.monotonic() - began)
        except BaseException:
            _end(process)
            raise


def _end(process):
    """Kill it with what it started: Julia precompiles in processes of its own."""
    if os.name == "nt":
        process.kill()
    else:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def version(exe, limit=60.0) -> str:
    """That of a Julia executable, '1.10.8'; '' where it is none, or cannot say."""
    try:
        done = run([exe, "--version"], limit)
    except OSError:
        return ""
    found = re.match(r"julia version (\d+\.\d+\.\d+)", done.out)
    if done.ok and found:
        return found[1]
    return ""
