"""What the tests on a real Julia share; imported where there is none, it skips the file, with the
reason.

Run them with a Julia that has the solvers: PYTHON_JULIACALL_EXE and PYTHON_JULIACALL_PROJECT,
`pynode julia use`, or `pynode julia install`. The first solve by each method compiles it, which
takes seconds.
"""

import math

import pytest
import torch

from pynode import solve
from pynode.backends.julia.runtime import start
from pynode.backends.julia.setup.locate import locate
from pynode.backends.julia.setup.versions import OPTIONS
from tests.support.cases import tensor

FOUND = locate()
if not FOUND.ready:
    pytest.skip(f"no Julia: {FOUND.problem}", allow_module_level=True)


def needs(option):
    """Skip the test where the Julia package behind an option of `pynode julia install` is not in
    the project."""
    name = OPTIONS[option]
    if not start().loads(name):
        pytest.skip(
            f"the Julia package {name} is not in the project: pynode julia install --{option}"
        )


def julia(f, y0, t, **options):
    return solve(f, y0, t, backend="julia", **options)


def next_solve_works():
    with torch.no_grad():
        y = julia(lambda t, y: -y, tensor(1.0), [0.0, 1.0], method="FBDF", rtol=1e-6).y[-1]
    assert abs(float(y) - math.exp(-1)) < 1e-4
