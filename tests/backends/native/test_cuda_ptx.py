"""The kernels over rows compile for a GPU: numba's simulator does not see errors of types."""

import functools
import json
import os
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.cuda_ptx import PROBLEMS


@functools.cache
def compiled():
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.cuda_ptx"],
        cwd=ROOT,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    if found["missing"]:
        pytest.skip(found["missing"])
    return found


@pytest.mark.parametrize("pass_", ["forward", "backward"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_kernel_compiles(problem, pass_):
    """No function is left open, and ptxas, where it is, assembles the kernel."""
    found = compiled()[problem][pass_]
    assert found["target"] == "sm_90"
    assert found["unresolved"] == []
    assert "ptxas" not in found, found["ptxas"]
    assert found.get("registers", 1) > 0
