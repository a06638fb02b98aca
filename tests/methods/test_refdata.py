"""The stiff methods against reference trajectories and sensitivities, and against differences of
their own solves.

Errors are relative to each component's largest value over the reference's times, so that a
component of 1e-5 counts as much as one of 1.
"""

import pytest
import torch

from pynode import problems, solve
from tests.support.refdata import (
    NAMES,
    load,
    scaled_gradients,
    sensitivity,
    thinned,
    tolerances,
)

STIFF = ["FBDF", "QNDF", "Rodas5P"]
# Relaxation oscillators, whose jumps amplify every error of their timing.
JUMPS = ("vanderpol", "oregonator")
every_stiff = pytest.mark.parametrize("method", STIFF)
every_problem = pytest.mark.parametrize("name", NAMES)


def at_reference(problem, reference, rtol, method, constants=None):
    """(T, n) states at the reference's times, with other constants than the published ones where
    given."""
    times = torch.cat((torch.tensor([reference["t0"]], dtype=torch.float64), reference["t"]))
    field, y0 = problem.field, problem.y0
    if constants is not None:
        with torch.no_grad():
            field.k.copy_(constants)
    return solve(field, y0, times, method=method, **tolerances(problem, rtol)).y[1:]


@every_problem
@every_stiff
@pytest.mark.parametrize(
    ("rtol", "quiet", "jumping"), [(1e-6, 1e-5, 1e-3), (1e-9, 1e-7, 1e-5)], ids=["1e-6", "1e-9"]
)
def test_trajectory(name, method, rtol, quiet, jumping):
    problem, reference = problems.get(name), load(name)
    with torch.no_grad():
        y = at_reference(problem, reference, rtol, method)
    error = (y - reference["y"]).abs() / reference["y"].abs().amax(0)
    assert error.max() <= (jumping if name in JUMPS else quiet)


@pytest.mark.parametrize(("method", "every"), [("FBDF", 1), ("QNDF", 1), ("Rodas5P", 4)])
def test_sensitivities_of_robertson(method, every):
    problem = problems.get("robertson")
    reference, scale = thinned(load("robertson"), every)
    found = scaled_gradients(problem, at_reference(problem, reference, 1e-9, method))
    assert ((found - sensitivity(reference, problem)).abs() / scale).max() <= 1e-5


# (times thinned, components, rtol, error). At rtol 1e-9 BDF's gradients of van der Pol's jumps are
# good to 1e-2 only.
OTHERS = {
    "hires": (10, slice(0, 8, 3), 1e-9, 1e-5),
    "pollution": (20, slice(0, 20, 5), 1e-9, 1e-5),
    "oregonator": (15, slice(0, 3), 1e-9, 1e-3),
    "vanderpol": (10, slice(0, 2), 1e-10, 2e-3),
}


@pytest.mark.parametrize("name", OTHERS)
@every_stiff
def test_sensitivities(name, method):
    every, components, rtol, allowed = OTHERS[name]
    problem = problems.get(name)
    reference, scale = thinned(load(name), every)
    y = at_reference(problem, reference, 1e-9 if method == "Rodas5P" else rtol, method)
    found = scaled_gradients(problem, y[:, components])
    error = (found - sensitivity(reference, problem)[:, components]).abs() / scale[components]
    assert error.max() <= allowed


@pytest.mark.parametrize(("method", "rtol"), [("FBDF", 1e-10), ("QNDF", 1e-10), ("Rodas5P", 1e-9)])
def test_gradients_are_the_differences_of_our_own_solves(method, rtol):
    """Central differences over 1e-3 of a constant, extrapolated once (Richardson)."""
    problem = problems.get("robertson")
    reference, scale = thinned(load("robertson"), 20)
    k = problem.field.k.detach().clone()
    found = scaled_gradients(problem, at_reference(problem, reference, rtol, method))

    def difference(constant, relative):
        ends = []
        for sign in (1, -1):
            moved = k.clone()
            moved[constant] *= 1 + sign * relative
            with torch.no_grad():
                ends.append(at_reference(problem, reference, rtol, method, moved))
        return (ends[0] - ends[1]) / (2 * relative)

    for constant in range(3):
        expected = (4 * difference(constant, 5e-4) - difference(constant, 1e-3)) / 3
        assert ((found[:, :, constant] - expected).abs() / scale[:, constant]).max() <= 1e-5
