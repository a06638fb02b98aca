"""The counts of Julia's solves, of f, of Jacobians and of gradients."""

import pytest
import torch

from tests.support.cases import Forced, leaf, smooth, smooth_exact, smooth_jac, tensor
from tests.support.juliacase import julia


@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P", "QNDF"])
def test_statistics_are_what_was_done(method):
    """Calls of f and of jac, steps, and the gradient's own counts beside them."""
    calls = {"f": 0, "jac": 0, "step": 0}

    def count(name, result):
        calls[name] += 1
        return result

    with torch.no_grad():
        stats = julia(
            lambda t, y: count("f", smooth(t, y)),
            smooth_exact(0.0),
            [0.0, 6.0],
            method=method,
            rtol=1e-6,
            first_step=3.0,
            jac=lambda t, y: count("jac", smooth_jac(t, y)),
            callback=lambda t, y, stats: count("step", False),
        ).stats
    asked = stats.njac if method == "Rodas5P" else 0  # for df/dt, which belongs to the Jacobian
    assert (stats.nfe + asked, stats.njac, stats.accepted) == (
        calls["f"],
        calls["jac"],
        calls["step"],
    )
    assert stats.rejected > 0 and stats.backward_nvjp == stats.switches == 0
    implicit = method != "Tsit5"
    assert (stats.njac > 0) == (stats.nlu > 0) == (
        stats.nsolve > stats.accepted / 2
    ) == implicit and stats.nlu >= stats.njac
    f = Forced()
    solution = julia(
        f, leaf(tensor(1.0, -0.5, 0.3)), [0.0, 1.0], method=method, adjoint="NativeGauss"
    )
    before = solution.stats.nfe, solution.stats.njac, solution.stats.accepted
    solution.y[-1].sum().backward()
    assert before == (solution.stats.nfe, solution.stats.njac, solution.stats.accepted)
    assert solution.stats.backward_nvjp > 0 and (solution.stats.backward_njac > 0) == implicit
