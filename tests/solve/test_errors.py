"""What users get wrong, and what goes wrong: every time a sentence with a remedy, the partial
solution, and no hang."""

import pytest
import torch

import pynode
from pynode import ODEProblem, SolveError, Status, solve
from pynode.methods import registry
from tests.support.cases import FAMILIES, METHODS, Forced, prothero, tensor

every_family = pytest.mark.parametrize("method", FAMILIES)
GOOD = tensor(1.0, 2.0)
SPAN = (0.0, 1.0)


def decay(t, y):
    return -y


# f, y0, times, error, sentence.
PROBLEMS = {
    "y0 with NaN": (
        decay,
        tensor(1.0, float("nan")),
        SPAN,
        ValueError,
        r"y0 is not finite \(flat component 1\)",
    ),
    "y0 infinite": (
        decay,
        tensor(float("inf"), 1.0),
        SPAN,
        ValueError,
        "y0 is not finite.*start from finite",
    ),
    "integer y0": (decay, torch.tensor([1, 2]), SPAN, TypeError, r"torch.int64.*use y0.double\(\)"),
    "boolean y0": (decay, torch.tensor([True]), SPAN, TypeError, r"torch.bool.*use y0.double\(\)"),
    "y0 of a tensor and a number": (
        decay,
        [tensor(1.0), 2.0],
        SPAN,
        TypeError,
        "y0 must be a tensor.*not float",
    ),
    "empty y0": (decay, torch.zeros(0), SPAN, ValueError, "y0 is empty"),
    "empty tuple": (decay, (), SPAN, ValueError, "y0 holds no tensor: give a tensor"),
    "dtypes of y0 disagree": (
        decay,
        (GOOD, GOOD.float()),
        SPAN,
        ValueError,
        "parts of y0 disagree.*convert",
    ),
    "f is no function": (3.0, GOOD, SPAN, TypeError, r"f must be a function f\(t, y\)"),
    "f returns another shape": (
        lambda t, y: y[:1],
        GOOD,
        SPAN,
        ValueError,
        r"\(1,\) where y0 has shape \(2,\)",
    ),
    "f returns a scalar": (
        lambda t, y: y.sum(),
        GOOD,
        SPAN,
        ValueError,
        r"\(\) where y0 has shape \(2,\)",
    ),
    "f returns another dtype": (
        lambda t, y: y.float(),
        GOOD,
        SPAN,
        TypeError,
        "float32.*convert the module or y0",
    ),
    "f returns a number": (lambda t, y: 1.0, GOOD, SPAN, TypeError, "result must be a tensor"),
    "f returns nothing": (
        lambda t, y: None,
        GOOD,
        SPAN,
        TypeError,
        "result must be a tensor.*NoneType",
    ),
    "f returns another structure": (
        lambda t, y: (y["a"], y["b"]),
        {"a": GOOD, "b": GOOD},
        SPAN,
        TypeError,
        "structure of y0, a dict.*not a tuple",
    ),
    "f misses a key": (
        lambda t, y: {"a": y["a"]},
        {"a": GOOD, "b": GOOD},
        SPAN,
        TypeError,
        "structure of y0",
    ),
    "module of another dtype": (
        Forced(2, torch.float32),
        GOOD,
        SPAN,
        TypeError,
        "float32.*float64",
    ),
    "f of the state alone": (
        lambda y: -y,
        GOOD,
        SPAN,
        TypeError,
        r"calls f with 2 arguments.*write it as f\(t, y",
    ),
    "f of too much": (
        lambda t, y, k: -k * y,
        GOOD,
        SPAN,
        TypeError,
        r"calls f with 2 arguments, t, y, but",
    ),
    "one time": (decay, GOOD, [0.0], ValueError, "at least two times"),
    "no time": (decay, GOOD, [], ValueError, "at least two times"),
    "equal times": (
        decay,
        GOOD,
        [0.0, 0.5, 0.5, 1.0],
        ValueError,
        r"t\[1\] = 0.5 is followed by t\[2\] = 0.5.*remove",
    ),
    "unsorted times": (
        decay,
        GOOD,
        [0.0, 1.0, 0.5],
        ValueError,
        "strictly increasing or strictly decreasing.*sort",
    ),
    "NaN among the times": (
        decay,
        GOOD,
        [0.0, float("nan")],
        ValueError,
        "not finite; give finite times",
    ),
    "infinite time": (
        decay,
        GOOD,
        [0.0, float("inf")],
        ValueError,
        "not finite; give finite times",
    ),
    "matrix of times": (decay, GOOD, torch.zeros(2, 2), ValueError, "one-dimensional"),
    "a number for times": (decay, GOOD, 1.0, TypeError, "t must be a sequence of numbers"),
    "no times": (decay, GOOD, None, TypeError, "t must be a sequence of numbers"),
    "words for times": (decay, GOOD, ["now", "then"], TypeError, "t must be a sequence of numbers"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_bad_problem_gets_a_sentence(case):
    f, y0, t, error, sentence = PROBLEMS[case]
    with pytest.raises(error, match=sentence):
        solve(f, y0, t)


# Options beside a good problem, error, sentence.
OPTIONS = {
    "negative rtol": ({"rtol": -1e-3}, ValueError, "rtol must be a non-negative.*good start"),
    "rtol NaN": ({"rtol": float("nan")}, ValueError, "rtol must be a non-negative"),
    "rtol in words": ({"rtol": "small"}, ValueError, "rtol must be a non-negative"),
    "negative atol": (
        {"atol": -1e-3},
        ValueError,
        "atol must be finite and not negative.*good start",
    ),
    "one negative atol": ({"atol": tensor(1.0, -1.0)}, ValueError, "atol must be finite and not"),
    "atol infinite": ({"atol": float("inf")}, ValueError, "atol must be finite"),
    "atol in words": ({"atol": "small"}, (TypeError, ValueError), "atol must be"),
    "no tolerance at all": ({"rtol": 0.0, "atol": 0.0}, ValueError, "both zero.*give one"),
    "impossible tolerances": (
        {"rtol": 1e-20, "atol": 1e-20},
        ValueError,
        "more digits than torch.float64 has.*loosen",
    ),
    "atol too long": (
        {"atol": tensor(1.0, 1.0, 1.0)},
        ValueError,
        "3 values for 2 states; give one",
    ),
    "misspelt method": (
        {"method": "fdbf"},
        ValueError,
        "unknown method 'fdbf': did you mean 'fbdf'",
    ),
    "no such method": ({"method": "???"}, ValueError, "choose one of Euler, .*FBDF"),
    "method of another type": ({"method": 5}, TypeError, "method must be a name such as"),
    "unknown adjoint": ({"adjoint": "reverse"}, ValueError, "unknown adjoint 'reverse': choose"),
    "zero step_size": ({"step_size": 0.0}, ValueError, "step_size must be positive"),
    "negative first_step": (
        {"first_step": -0.1},
        ValueError,
        "first_step must be positive.*direction",
    ),
    "fixed steps of BDF": (
        {"method": "fbdf", "step_size": 0.1},
        ValueError,
        "bound the steps by max_step",
    ),
    "crossed bounds": ({"min_step": 1.0, "max_step": 0.1}, ValueError, "min_step <= max_step"),
    "negative min_step": ({"min_step": -1.0}, ValueError, "min_step <= max_step"),
    "no steps": ({"max_steps": 0}, ValueError, "max_steps and max_nfe must be at least 1"),
    "no evaluations": ({"max_nfe": 0}, ValueError, "max_steps and max_nfe must be at least 1"),
    "jac is no function": ({"jac": torch.eye(2)}, TypeError, r"jac must be a function jac\(t, y\)"),
    "jac of another shape": (
        {"jac": lambda t, y: torch.ones(3)},
        ValueError,
        r"returned \(3,\).*shape \(2, 2\)",
    ),
    "jac returns nothing": ({"jac": lambda t, y: None}, ValueError, r"NoneType.*shape \(2, 2\)"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_option_gets_a_sentence(case):
    options, error, sentence = OPTIONS[case]
    with pytest.raises(error, match=sentence):
        solve(decay, GOOD, SPAN, **options)


def test_single_precision_has_its_own_limit():
    with pytest.raises(ValueError, match=r"float32 has.*loosen.*or use float64"):
        solve(decay, GOOD.float(), SPAN, rtol=1e-9, atol=1e-9)


def test_errors_of_the_field_pass_through():
    def f(t, y):
        raise KeyError("a mistake inside the field")

    with pytest.raises(KeyError, match="a mistake inside the field"):
        solve(f, GOOD, SPAN)


@pytest.mark.parametrize("name", registry.ALIASES)
def test_aliases(name):
    assert registry.get(name).name.lower() == registry.ALIASES[name]
    assert registry.get(name.upper()) is registry.get(name)


def failing(f, y0, t, **options):
    """The solution of a solve that must fail, after checking what every failure owes its user."""
    solution = solve(f, y0, t, throw=False, **options)
    assert not solution.success
    assert (
        solution.status.sentence in solution.message and solution.status.remedy in solution.message
    )
    assert len(solution.t) == len(solution.y) >= 1
    assert torch.equal(solution.y[0], y0) and torch.isfinite(solution.y).all()
    with pytest.raises(SolveError) as caught:
        solve(f, y0, t, **options)
    assert str(caught.value) == solution.message and caught.value.status is solution.status
    assert torch.equal(caught.value.solution.y, solution.y)
    return solution


def nan_after_half(t, y):
    return torch.where(t > 0.5, torch.nan, -y)


@pytest.mark.parametrize("method", METHODS)
def test_nan_midway(method):
    solution = failing(
        nan_after_half, GOOD, [0.0, 0.2, 0.4, 0.6, 1.0], method=method, rtol=1e-3, atol=1e-3
    )
    assert solution.status is Status.NONFINITE
    assert solution.t.tolist() == [0.0, 0.2, 0.4]
    assert "divisions, logarithms or roots" in solution.message
    assert solution.stats.nfe < 2000


@every_family
def test_nan_at_the_start(method):
    solution = failing(lambda t, y: y / 0 * 0, GOOD, [0.0, 1.0], method=method)
    assert solution.status is Status.NONFINITE and len(solution.t) == 1
    assert "component 0" in solution.message


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("start", [1.0, 1e3])
def test_blow_up_in_finite_time(method, start):
    """y' = y^2 is infinite at t = 1/y0: the solve ends just before, soon, and says that it may blow
    up."""
    rtol = {1: 1e-2, 2: 1e-2, 3: 1e-4}.get(registry.get(method).order, 1e-6)
    solution = failing(
        lambda t, y: y * y,
        tensor(start),
        [0.0, 0.5 / start, 3.0],
        method=method,
        rtol=rtol,
        atol=1e-9,
    )
    assert solution.status in (Status.STEP_TOO_SMALL, Status.NONFINITE, Status.NEWTON)
    assert len(solution.t) == 2 and solution.y[1].item() == pytest.approx(2 * start, rel=0.1)
    assert solution.reached == pytest.approx(1 / start, rel=0.1)
    assert solution.stats.nfe < 30_000


@every_family
def test_a_tolerance_near_the_limit_of_the_dtype(method):
    solution = solve(
        prothero(-2.0), tensor(1.0, 1.0), [0.0, 1.0], method=method, rtol=1e-13, atol=1e-13
    )
    assert solution.stats.nfe < 20_000
    assert torch.allclose(solution.y[-1], torch.cos(tensor(1.0)), rtol=0, atol=1e-10)


@every_family
def test_a_tolerance_at_the_limit_of_the_dtype_comes_to_an_end(method):
    """Below it the door is closed (see OPTIONS)."""
    options = {"method": method, "rtol": 2e-15, "atol": 2e-15, "throw": False}
    assert solve(prothero(-2.0), GOOD, [0.0, 1.0], **options).stats.nfe < 20_000


@every_family
def test_step_limit(method):
    solution = failing(prothero(-2.0), GOOD, [0.0, 1e-3, 100.0], method=method, max_steps=20)
    assert solution.status is Status.MAX_STEPS and "raise max_steps" in solution.message
    assert solution.stats.accepted + solution.stats.rejected == 20
    assert len(solution.t) == 2


@every_family
def test_evaluation_limit(method):
    solution = failing(prothero(-2.0), GOOD, [0.0, 1e-3, 100.0], method=method, max_nfe=200)
    assert solution.status is Status.MAX_EVALUATIONS and "raise max_nfe" in solution.message
    assert 170 < solution.stats.nfe <= 200


@every_family
def test_min_step(method):
    solution = failing(
        prothero(-1e5), GOOD, [0.0, 10.0], method=method, min_step=1e-2, first_step=0.1
    )
    assert solution.status is Status.MIN_STEP and "lower min_step" in solution.message


@pytest.mark.parametrize("method", ["FBDF", "QNDF"])
def test_wrong_jacobian(method):
    """Newton's iteration cannot converge with it: the advice is to check it, or a method that needs
    no iteration."""
    solution = failing(
        lambda t, y: -1e20 * (y - 1),
        GOOD,
        [1.0, 2.0],
        method=method,
        first_step=0.1,
        jac=lambda t, y: torch.zeros(2, 2),
    )
    assert solution.status is Status.NEWTON and "check the Jacobian" in solution.message
    assert solution.stats.newton_failures > 10


@pytest.mark.parametrize("method", ["Rodas5P", "FBDF", "QNDF"])
def test_jacobian_of_nan(method):
    """f is finite, so that blaming it would send its author the wrong way."""
    solution = failing(
        decay, GOOD, [1.0, 2.0], method=method, jac=lambda t, y: torch.full((2, 2), torch.nan)
    )
    assert "jacobian" in solution.message.lower()
    assert solution.stats.nfe < 1000


@every_family
def test_zero_atol_where_a_state_is_zero(method):
    """Relative error alone, and a component that stays at zero: no error there, and no NaN
    either."""
    y = solve(decay, tensor(1.0, 0.0), [0.0, 1.0], method=method, rtol=1e-6, atol=0.0).y[-1]
    torch.testing.assert_close(y, tensor(0.36787944, 0.0), rtol=1e-4, atol=0)


def test_singular_matrix_of_a_rosenbrock_step():
    """I - h gamma J singular at the first h: the step is tried again, shorter."""
    gamma = float(registry.get("Rodas5P").tableau.gamma)
    solution = solve(
        decay,
        GOOD,
        SPAN,
        method="Rodas5P",
        first_step=0.5,
        rtol=1e-3,
        jac=lambda t, y: (
            torch.eye(2, dtype=torch.float64) / (0.5 * gamma) if float(t) == 0 else -torch.eye(2)
        ),
    )
    assert solution.stats.rejected >= 1
    torch.testing.assert_close(solution.y[-1], GOOD * 0.36787944, rtol=1e-2, atol=0)


def test_problem_at_the_door():
    problem = ODEProblem(decay, GOOD, SPAN, args=[])
    assert problem.args == ()
    assert solve(problem).success
    with pytest.raises(TypeError, match="jac must be a function"):
        ODEProblem(decay, GOOD, SPAN, jac=1)
    # A builtin has no signature to look at; f(t, y) = t y.
    torch.testing.assert_close(
        solve(torch.mul, tensor(1.0), SPAN).y[-1], tensor(1.6487213), rtol=1e-4, atol=0
    )


def test_an_option_that_a_method_does_not_have():
    with pytest.raises(ValueError, match="choose one of I, PI, PID"):
        pynode.Tsit5(controller="P")
    with pytest.raises(TypeError, match="FBDF has no option 'controller': it has jacobian"):
        registry.get("fbdf", controller="PI")
    with pytest.raises(TypeError, match="RadauIIA5 has no option 'controller'"):
        registry.get("radauiia5", controller="PI")
    with pytest.raises(TypeError, match="FBDF has no option 'controller': it has jacobian"):
        pynode.FBDF(controller="PI")


def test_options_replace_those_of_a_method():
    """Every method takes the default of an option, and a default replaces what was there."""
    sparse = registry.get("qndf", jacobian="sparse")
    assert sparse.jacobian == "sparse"
    assert registry.get(sparse, jacobian="dense") == registry.get("qndf")
    assert registry.get("tsit5", jacobian="dense") == registry.get("tsit5")
    assert registry.get("autotsit5", jacobian="dense") == registry.get("autotsit5")
