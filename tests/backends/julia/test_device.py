"""The device of the state in Julia: what is refused, and fields on an accelerator, a pretended
one."""

import pytest
import torch

from pynode import JuliaBackend, solve
from tests.support import ROOT
from tests.support.alone import run_alone
from tests.support.cases import tensor
from tests.support.juliacase import next_solve_works


def test_fields_on_a_pretended_accelerator():
    """All of tests/support/pretended_julia.py, where nothing else has gone backwards before."""
    done = run_alone(ROOT / "tests" / "support" / "pretended_julia.py")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    next_solve_works()


def test_a_state_on_cuda_where_there_is_none():
    """Each a sentence with its remedy."""
    cuda = JuliaBackend(state="cuda")
    with pytest.raises(
        ValueError, match="y0 is on cpu: move y0 and the field to the GPU, or leave out state"
    ):
        solve(lambda t, y: -y, tensor(1.0), [0.0, 1.0], method="Tsit5", backend=cuda)
    with pytest.raises(ValueError, match="choose 'cpu' or 'cuda'"):
        JuliaBackend(state="gpu")
    with torch.no_grad():
        y = solve(
            lambda t, y: -y, tensor(1.0), [0.0, 1.0], method="Tsit5", backend=JuliaBackend()
        ).y[-1]
    assert abs(float(y) - 0.36787944) < 1e-5
