"""A measurement in a process of its own, so that its memory and its threads are its alone."""

import json
import os
import resource
import subprocess
import sys

THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def peak() -> float:
    """Largest resident memory of this process so far, in MB (Linux counts in KB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def apart(module: str, *arguments) -> dict:
    """The JSON object on the last line that ``python -m module arguments`` prints; RuntimeError
    where it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | THREADS)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[2:])} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
