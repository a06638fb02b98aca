"""The kernel over the rows of a batch, in numba's simulator: the steps, the states and the
gradients of the native engine on the CPU.

The simulator runs the kernel as Python, so it shows what the kernel computes. It does not show
whether the kernel compiles: that is test_cuda_ptx.py.
"""

import pytest

from tests.support.cuda_rows import ROWS, simulated

# Of the row's largest state, and of the largest number of a gradient.
STATES = 1e-12
# Native code has a tanh of its own. Its rounding changes the steps by some last places.
NETWORK = 1e-11
GRADIENTS = 1e-10

FULL = [
    "oscillators tsit5",
    "oscillators rodas5p",
    "network tsit5",
    "network rodas5p",
    "reactions rodas5p",
]
SMALL = [
    "oscillators bs3",
    "oscillators dp8",
    "reactions rosenbrock23",
    "backwards_in_time",
    "stops_and_jumps",
    "fixed_steps",
    "nonnegative",
    "groups",
]


def assert_equal(found, states=STATES, gradients=GRADIENTS):
    """The kernel and the CPU took the same steps to the same results."""
    assert found["backend"] == "cuda"
    assert found["counts"] == found["expected"]
    assert found["statuses"] == found["expected_statuses"]
    assert found["reached"] == found["expected_reached"]
    assert found["nan"] == found["expected_nan"]
    assert found["states"] <= states
    assert max(found["gradients"]) <= gradients
    assert all(found["finite"])


@pytest.mark.parametrize("name", FULL)
def test_rows_beside_the_cpu(name):
    """All rows end at different numbers of steps."""
    found = simulated()[name]
    assert_equal(found, NETWORK if "network" in name else STATES)
    assert found["statuses"] == ["SUCCESS"] * ROWS


@pytest.mark.parametrize("name", SMALL)
def test_options_beside_the_cpu(name):
    assert_equal(simulated()[name], NETWORK if name == "groups" else STATES)


def test_times_of_each_row():
    """Rows with outputs and ends of their own, and the gradient in these times."""
    found = simulated()["own_times"]
    assert_equal(found)
    assert found["times"] <= GRADIENTS


@pytest.mark.parametrize("name", ["failing_row", "failing_row_implicit"])
def test_a_row_that_fails(name):
    """It ends with its status. The others reach the end, and have their gradients."""
    found = simulated()[name]
    assert_equal(found)
    assert found["statuses"] == ["SUCCESS", "STEP_TOO_SMALL", "SUCCESS", "SUCCESS"]
    assert found["reached"][1] == pytest.approx(0.5, abs=1e-3)
    assert found["nan"] == 1


def test_the_report_of_a_row_that_fails():
    message = simulated()["refusals"]["failure"]
    assert "row 1" in message
    assert "the step size fell below what floating point can resolve" in message


def test_rows_that_need_too_many_steps():
    found = simulated()["max_steps"]
    assert_equal(found)
    assert set(found["statuses"]) == {"SUCCESS", "MAX_STEPS"}


def test_float32():
    assert_equal(simulated()["single_precision"], 1e-5, 1e-5)


def test_the_order_of_the_rows_changes_nothing():
    """One thread or several, rows as they come or sorted by their steps: the same in every bit."""
    for equal in simulated()["order"]["equal"]:
        assert all(equal)


def test_the_record_of_all_rows():
    """Each row has just the room that its steps need. Its steps follow one another."""
    found = simulated()["tape"]
    assert found["offsets"] == found["expected"]
    assert found["room"] == 1
    assert found["firsts"] == [0.0] * 6
    assert found["lasts"] == pytest.approx([0.5] * 6, rel=1e-12)
    assert found["gaps"] <= 1e-15


def test_a_parameter_that_changed():
    assert "has changed in place since the solve" in simulated()["changed"]["error"]


@pytest.mark.parametrize("name", ["callback", "domain", "max_seconds", "max_nfe"])
def test_what_needs_python_between_the_steps(name):
    message = simulated()["refusals"][name]
    assert f"takes no {name}: leave this out" in message
    assert "backend='native'" in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("method", "no QNDF: choose an explicit or a Rosenbrock method"),
        ("adjoint", "keeps all steps"),
        ("batched", "pass batched=True"),
        ("wide", "up to 16 states a row, not 17"),
    ],
)
def test_other_refusals(name, words):
    assert words in simulated()["refusals"][name]
