"""Tests that need a process of their own, run from inside another test."""

import subprocess
import sys
from pathlib import Path

from tests.support import ROOT


def run_alone(path: Path) -> subprocess.CompletedProcess:
    """pytest on one file, in a new process."""
    options = ["-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=900,
        check=False,
    )
