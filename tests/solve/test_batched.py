"""batched=True: every row as if it were solved alone, and no row paying for another."""

from collections import Counter

import pytest
import torch

from pynode import RejectStep, SolveError, Status, solve

METHODS = ["tsit5", "vern7", "bs3", "rodas5p", "rosenbrock23", "qndf", "fbdf"]
DIAGONAL = [
    "impliciteuler",
    "implicitmidpoint",
    "sdirk2",
    "trbdf2",
    "kvaerno3",
    "kvaerno5",
    "kencarp4",
    "kencarp47",
]
# Of low order.
LOOSE = {
    "impliciteuler": 1e-2,
    "implicitmidpoint": 1e-2,
    "sdirk2": 1e-3,
    "trbdf2": 1e-4,
    "kvaerno3": 1e-4,
}


def oscillator(t, y, mu):
    """Van der Pol, mu a row."""
    x, v = y.unbind(-1)
    return torch.stack((v, mu * (1 - x * x) * v - x), -1)


def forced(t, y, rate):
    """y' = -rate (y - cos t): non-autonomous, t of shape (rows, 1)."""
    return -rate.unsqueeze(-1) * (y - torch.cos(t))


def alone(f, y0, t, args, **options):
    solutions = [
        solve(lambda s, y, a=[x[i] for x in args]: f(s, y, *a), y0[i], t[:, i], **options)
        for i in range(len(y0))
    ]
    return torch.stack([s.y for s in solutions], dim=1), sum(s.stats.nfe for s in solutions)


@pytest.mark.parametrize("method", METHODS + DIAGONAL)
def test_rows_equal_rows_alone(method):
    mu = torch.tensor([1.0, 3.0, 10.0, 30.0], dtype=torch.float64)
    y0 = torch.tensor([2.0, 0.0], dtype=torch.float64).repeat(4, 1)
    t = torch.linspace(0, 8, 9, dtype=torch.float64).unsqueeze(1).repeat(1, 4)
    rtol = LOOSE.get(method, 1e-5)
    options = {"method": method, "rtol": rtol, "atol": 1e-7}
    together = solve(oscillator, y0, t[:, 0], args=(mu,), batched=True, **options)
    expected, evaluations = alone(oscillator, y0, t, (mu,), **options)
    # The same steps up to rounding: far inside the tolerance.
    assert ((together.y - expected).abs() <= 0.1 * (1e-7 + rtol * expected.abs())).all()
    assert together.stats.nfe <= 1.3 * evaluations


@pytest.mark.parametrize("method", ["qndf", "fbdf"])
def test_rows_of_a_large_batch_wait_for_jacobians(method):
    """Waiting costs evaluations and changes nothing: the counts of all else are those of the rows
    alone."""
    mu = torch.logspace(0, 3, 80, dtype=torch.float64)
    y0 = torch.tensor([2.0, 0.0], dtype=torch.float64).repeat(80, 1)
    options = {"method": method, "rtol": 1e-5, "atol": 1e-7}
    together = solve(oscillator, y0, [0.0, 0.5, 2.0], args=(mu,), batched=True, **options)
    sums = Counter()
    for i in range(80):
        solution = solve(oscillator, y0[i], [0.0, 0.5, 2.0], args=(mu[i],), **options)
        assert ((together.y[:, i] - solution.y).abs() <= 1e-7 + 1e-5 * solution.y.abs()).all()
        sums.update(solution.stats.as_dict())
    work = together.stats
    assert (work.njac, work.nlu, work.accepted, work.rejected) == tuple(
        sums[name] for name in ("njac", "nlu", "accepted", "rejected")
    )
    assert sums["nsolve"] < work.nsolve <= 1.1 * sums["nsolve"]


@pytest.mark.parametrize("method", [*METHODS, "kvaerno5"])
def test_spans_and_times_of_their_own(method):
    rate = torch.tensor([1.0, 200.0, 5.0], dtype=torch.float64)
    y0 = torch.zeros(3, 2, dtype=torch.float64)
    t = torch.stack(
        [torch.linspace(0, 1, 5), torch.linspace(0, 3, 5), torch.linspace(1, 0.5, 5)], 1
    ).to(torch.float64)
    options = {"method": method, "rtol": 1e-6, "atol": 1e-8}
    together = solve(forced, y0, t, args=(rate,), batched=True, **options)
    expected, _ = alone(lambda s, y, r: -r * (y - torch.cos(s)), y0, t, (rate,), **options)
    assert torch.allclose(together.y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "qndf", "fbdf"])
def test_a_row_that_fails_leaves_the_others_alone(method):
    # Y' = y^2 blows up at t = 1 in the first row.
    y0 = torch.tensor([[1.0], [-1.0], [0.1]], dtype=torch.float64)
    solution = solve(
        lambda t, y: y * y, y0, [0.0, 0.5, 2.0], method=method, batched=True, throw=False
    )
    assert [s is Status.SUCCESS for s in solution.statuses] == [False, True, True]
    assert solution.statuses[0] in (Status.STEP_TOO_SMALL, Status.NONFINITE)
    assert abs(solution.reached[0] - 1.0) < 1e-3
    assert torch.allclose(solution.y[1], 1 / (1 / y0 - 0.5), rtol=1e-4)
    assert torch.isnan(solution.y[2, 0]).all()
    assert torch.allclose(solution.y[2, 1:], 1 / (1 / y0[1:] - 2.0), rtol=1e-4)
    with pytest.raises(
        SolveError, match=r"1 of 3 rows failed, the first of them row 0.*What to do"
    ):
        solve(lambda t, y: y * y, y0, [0.0, 0.5, 2.0], method=method, batched=True)


@pytest.mark.parametrize("method", ["kvaerno5", "implicitmidpoint"])
def test_fixed_steps(method):
    """Also where Newton's iteration needs a new Jacobian at every iterate: the last row begins far
    from its attractor."""
    rate, y0 = (
        torch.tensor([1.0, 30.0, 3.0], dtype=torch.float64),
        torch.tensor([[1.0], [0.5], [40.0]], dtype=torch.float64),
    )
    t = torch.linspace(0, 1, 5, dtype=torch.float64).unsqueeze(1).repeat(1, 3)

    def cubic(t, y, rate):
        return -rate.unsqueeze(-1) * (y - torch.cos(t)) ** 3

    options = {"method": method, "step_size": 1 / 16}
    together = solve(cubic, y0, t, args=(rate,), batched=True, **options)
    expected, _ = alone(lambda s, y, r: -r * (y - torch.cos(s)) ** 3, y0, t, (rate,), **options)
    assert torch.allclose(together.y, expected, rtol=1e-9, atol=1e-12)


def test_fixed_steps_that_blow_up_end():
    y0 = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    solution = solve(
        lambda t, y: y**3, y0, [0.0, 100.0], method="rk4", step_size=0.5, batched=True, throw=False
    )
    assert solution.statuses == [Status.DIVERGED] * 2


def test_structure_of_the_state_is_kept():
    y0 = {"a": torch.ones(5, 2, 3, dtype=torch.float64), "b": torch.ones(5, dtype=torch.float64)}
    solution = solve(
        lambda t, y: {"a": -y["a"], "b": -2 * y["b"]}, y0, [0.0, 1.0], method="tsit5", batched=True
    )
    assert solution.y["a"].shape == (2, 5, 2, 3)
    assert torch.allclose(
        solution.y["b"][1], torch.full((5,), -2.0, dtype=torch.float64).exp(), rtol=1e-5
    )


@pytest.mark.parametrize(
    "f",
    [
        lambda t, y: y - y.mean(0),
        lambda t, y: -torch.linspace(1, 2, 6, dtype=y.dtype)[: len(y), None] * y,
    ],
)
def test_a_false_claim_is_refused(f):
    with pytest.raises(ValueError, match="rows influence one another"):
        solve(f, torch.rand(6, 2, dtype=torch.float64), [0.0, 1.0], method="tsit5", batched=True)


def test_sentences():
    y0 = torch.ones(3, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="leave out adjoint"):
        solve(lambda t, y: -y, y0, [0.0, 1.0], adjoint="direct", batched=True)
    for method in ("radauiia5", "abdf2"):
        with pytest.raises(ValueError, match="does not run with batched=True"):
            solve(lambda t, y: -y, y0, [0.0, 1.0], method=method, batched=True)
    with pytest.raises(ValueError, match="leave out dense"):
        solve(lambda t, y: -y, y0, [0.0, 1.0], dense=True, batched=True)
    with pytest.raises(ValueError, match="a column for each row"):
        solve(lambda t, y: -y, y0, torch.zeros(4, 2), batched=True)
    with pytest.raises(ValueError, match="row 1 must be"):
        solve(lambda t, y: -y, y0, torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]), batched=True)
    with pytest.raises(ValueError, match="broadcasts against y"):
        solve(lambda t, y: y[..., 0] * t, y0, [0.0, 1.0], batched=True)
    with pytest.raises(ValueError, match="same first dimension"):
        solve(lambda t, y: y, (torch.ones(3), torch.ones(2)), [0.0, 1.0], batched=True)
    for empty in (torch.ones(0, 2), torch.ones(3, 0)):
        with pytest.raises(ValueError, match="y0 is empty"):
            solve(lambda t, y: y, empty, [0.0, 1.0], batched=True)


def test_max_steps_by_row():
    rate = torch.tensor([1.0, 1e5], dtype=torch.float64)
    y0 = torch.ones(2, 1, dtype=torch.float64)
    solution = solve(
        forced,
        y0,
        [0.0, 1.0],
        args=(rate,),
        method="tsit5",
        batched=True,
        max_steps=200,
        throw=False,
    )
    assert solution.statuses == [Status.SUCCESS, Status.MAX_STEPS]


def test_min_step_by_row_as_alone():
    rate = torch.tensor([1.0, 1e5], dtype=torch.float64)
    y0 = torch.ones(2, 1, dtype=torch.float64)
    solution = solve(
        forced, y0, [0.0, 1.0], args=(rate,), method="bs3", batched=True, min_step=1e-4, throw=False
    )
    assert solution.statuses == [Status.SUCCESS, Status.MIN_STEP]
    alone = solve(
        lambda t, y: forced(t, y, rate[1]),
        y0[1],
        [0.0, 1.0],
        method="bs3",
        min_step=1e-4,
        throw=False,
    )
    assert alone.status is Status.MIN_STEP


def test_a_row_that_f_refuses():
    """RejectStep names no row, NaN does: such a step is tried again, smaller."""

    def refuses(t, y):
        if bool((y < 0).any()):
            raise RejectStep
        return -y

    y0 = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match="return NaN for these"):
        solve(refuses, y0, [0.0, 1.0], method="tsit5", batched=True)
    y0 = torch.ones(2, 1, dtype=torch.float64)

    def undefined(t, y):
        return torch.where(y < 0, torch.nan, -1000.0 * y.sqrt())

    solution = solve(
        undefined, y0, [0.0, 1e-3], method="tsit5", first_step=5e-3, max_steps=200, batched=True
    )
    assert solution.stats.rejected > 0 and torch.allclose(
        solution.y[-1], torch.full_like(y0, 0.25), rtol=1e-5
    )


@pytest.mark.parametrize("method", METHODS + DIAGONAL)
def test_single_precision_and_time(method):
    """Times stay in float64, states in float32."""
    y0 = torch.tensor([[1.0, 0.5], [0.2, 2.0]])
    found, alone = (
        solve(
            lambda t, y: torch.sin(3 * t) - y,
            start,
            [0.0, 1.0],
            method=method,
            rtol=1e-4,
            batched=rows,
        ).y[-1]
        for start, rows in ((y0, True), (y0[1], False))
    )
    assert found.dtype == torch.float32 and torch.allclose(found[1], alone, atol=1e-3)


@pytest.mark.parametrize("method", ["tsit5", "qndf", "rodas5p", "kencarp4"])
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_args_that_have_the_size_of_the_batch_by_chance(method, apart):
    """Three rows, three states, three coefficients, a vector or a matrix: declared, they are not
    cut; else refused."""
    c = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    y0, end = (
        torch.ones(3, 3, dtype=torch.float64),
        torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
    )
    t = torch.stack((0 * end, end)) if apart else (0.0, 1.0)
    right = torch.exp(-c * (end.unsqueeze(1) if apart else 1.0)).expand(3, 3)
    cases = ((lambda t, y, c: -c * y, c), (lambda t, y, a: y @ a, -torch.diag(c)))
    for f, argument in cases:
        y = solve(f, y0, t, args=(argument,), by_row=False, method=method, batched=True).y[-1]
        torch.testing.assert_close(y, right, rtol=0, atol=1e-4)
        with pytest.raises(ValueError, match=r"args\[0\] had 3 as first dimension.*by_row=False"):
            solve(f, y0, t, args=(argument,), method=method, batched=True)
    with pytest.raises(ValueError, match=r"influence one another.*by_row=False"):
        solve(lambda t, y, c: -c.sum() * y, y0, t, args=(c,), method=method, batched=True)


def test_one_row_is_asked_as_often_as_it_has_states():
    """A single coefficient beside a single row: a sum over it would count it twice in the
    Jacobian."""
    c, y0 = torch.tensor([2.0], dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="by_row=False"):
        solve(
            lambda t, y, c: -c.sum() * y, y0, (0.0, 1.0), args=(c,), method="rodas5p", batched=True
        )
    found = solve(
        lambda t, y, c: -c.sum() * y,
        y0,
        (0.0, 1.0),
        args=(c,),
        by_row=(False,),
        method="rodas5p",
        batched=True,
    )
    torch.testing.assert_close(found.y[-1], torch.exp(-c).expand(1, 2), rtol=1e-5, atol=0)


def test_wrong_claims_about_args_are_refused():
    def solved(args, by_row, batched=True):
        y0 = torch.ones(3, 2, dtype=torch.float64)
        return solve(
            lambda t, y, *args: -y, y0, (0.0, 1.0), args=args, by_row=by_row, batched=batched
        )

    two = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"by_row says that args\[1\] belongs to the 3 rows"):
        solved((1.0, two), (False, True))
    with pytest.raises(ValueError, match="by_row has 1 entries for 2 args"):
        solved((1.0, two), (True,))
    with pytest.raises(TypeError, match="by_row must be a bool"):
        solved((two,), "first")
    with pytest.raises(ValueError, match="pass batched=True"):
        solved((two,), False, batched=False)
