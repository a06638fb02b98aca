"""The two histories of BDF by themselves: what they predict, rescale, estimate and interpolate, on
polynomials."""

import numpy as np
import pytest
import torch

from pynode.methods.bdf.formulas import DifferenceHistory, ValueHistory
from tests.support.cases import tensor

ORDERS = range(1, 6)
both = pytest.mark.parametrize("history", [DifferenceHistory, ValueHistory])
every_order = pytest.mark.parametrize("k", ORDERS)
H = 0.25


def polynomial(degree, seed=0):
    """t -> (..., 2): two polynomials of this degree, about t = 0.3, and their derivatives."""
    c = torch.randn(
        degree + 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )

    def value(t):
        x = torch.as_tensor(t, dtype=torch.float64).unsqueeze(-1) - 0.3
        return sum(c[i] * x**i for i in range(degree + 1))

    def derivative(t):
        x = torch.as_tensor(t, dtype=torch.float64).unsqueeze(-1) - 0.3
        return sum(
            (i * c[i] * x ** (i - 1) for i in range(1, degree + 1)), torch.zeros_like(x * c[0])
        )

    return value, derivative


def differences(values):
    """Backward differences of order 0, 1, ... of values newest first."""
    rows = [values[0]]
    while len(values) > 1:
        values = values[:-1] - values[1:]
        rows.append(values[0])
    return torch.stack(rows)


def history_of(form, f, t, h):
    """(z, past) of exact values of f on an even grid that ends at t."""
    grid = t - h * torch.arange(form.rows, dtype=torch.float64)
    values = f(grid)
    if isinstance(form, DifferenceHistory):
        return differences(values), ()
    return values, tuple(h * j for j in range(form.rows))


@both
@every_order
@pytest.mark.parametrize("h", [H, -H])
def test_prediction_and_formula_are_exact_on_polynomials(history, k, h):
    """Degree k: the prediction is the value; with it, d = 0 solves d = c f(t + h) - q z, the BDF
    formula."""
    form, (f, slope) = history(), polynomial(k)
    z, past = history_of(form, f, 1.0, h)
    pq, _ = form.predictor(z, past, k, h, 0)
    predicted, history_term = pq @ z
    torch.testing.assert_close(predicted, f(1.0 + h), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        h / form.alpha[k] * slope(1.0 + h), history_term, rtol=1e-9, atol=1e-9
    )


@every_order
def test_prediction_from_an_uneven_grid(k):
    form, (f, slope) = ValueHistory(), polynomial(k)
    past = (0.0, 0.2, 0.25, 0.4, 0.7, 0.8, 1.1)
    z = f(1.0 - tensor(*past))
    pq, _ = form.predictor(z, past, k, H, 0)
    predicted, history_term = pq @ z
    torch.testing.assert_close(predicted, f(1.0 + H), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        H / form.alpha[k] * slope(1.0 + H), history_term, rtol=1e-9, atol=1e-9
    )


@every_order
def test_an_even_grid_takes_the_short_cut(k):
    """After k equal steps the matrices are those of the general formula."""
    form, (f, _) = ValueHistory(), polynomial(3)
    z, past = history_of(form, f, 1.0, H)
    for general, short in zip(
        form.predictor(z, past, k, H, 0), form.predictor(z, past, k, H, k), strict=True
    ):
        np.testing.assert_allclose(short, general, rtol=1e-12, atol=1e-12)
    assert form.error_constant(past, k, H, k) == pytest.approx(
        form.error_constant(past, k, H, 0), rel=1e-12
    )


@every_order
@pytest.mark.parametrize("ratio", [0.2, 0.9, 1.3, 10.0])
def test_rescaling_leaves_the_polynomial_unchanged(k, ratio):
    form, (f, _) = DifferenceHistory(), polynomial(k)
    z, past = history_of(form, f, 1.0, H)
    rescaled, past, matrix = form.rescale(z, past, k, ratio)
    expected, _ = history_of(form, f, 1.0, H * ratio)
    torch.testing.assert_close(
        rescaled[: k + 1], expected[: k + 1], rtol=1e-9, atol=1e-9 * ratio**k
    )
    torch.testing.assert_close(
        torch.from_numpy(np.asarray(matrix)) @ z, rescaled, rtol=1e-12, atol=1e-12
    )
    again, _, _ = form.rescale(rescaled, past, k, 1 / ratio)
    torch.testing.assert_close(again[: k + 1], z[: k + 1], rtol=1e-8, atol=1e-9)


def test_values_need_no_rescaling():
    form, (f, _) = ValueHistory(), polynomial(3)
    z, past = history_of(form, f, 1.0, H)
    assert form.rescale(z, past, 3, 2.0) == (z, past, None)


@both
@every_order
def test_update_moves_the_history_on(history, k):
    """The history of values one step later, as far as order k + 2 needs it."""
    form, (f, _) = history(), polynomial(k)
    z, past = history_of(form, f, 1.0, H)
    y1 = f(1.0 + H)
    pq, _ = form.predictor(z, past, k, H, 0)
    moved, past = form.update(z, past, k, H, y1 - pq[0] @ z, y1)
    expected, after = history_of(form, f, 1.0 + H, H)
    torch.testing.assert_close(moved[: k + 1], expected[: k + 1], rtol=1e-9, atol=1e-9)
    assert past == pytest.approx(after)


@both
@every_order
def test_interpolant(history, k):
    """Degree k through the new value and the k before it, also inside the first step back."""
    form, (f, _) = history(), polynomial(k)
    z, past = history_of(form, f, 1.0, H)
    pq, nodes = form.predictor(z, past, k, H, 0)
    y1 = f(1.0 + H)
    z, _ = form.update(z, past, k, H, y1 - pq[0] @ z, y1)
    coefficients = torch.from_numpy(form.dense_weights(k, nodes)) @ z
    for theta in (0.0, 0.3, 1.0):
        value = sum(coefficients[i] * theta**i for i in range(k + 1))
        torch.testing.assert_close(value, f(1.0 + theta * H), rtol=1e-8, atol=1e-8)


@both
@every_order
def test_error_constants(history, k):
    """On a polynomial of degree k + 1 the distance from prediction to solution gives the error of
    the formula.

    The error of BDF on an even grid is h^(k+1) y^(k+1)/(k + 1), NDF's is smaller by its kappa
    (Shampine & Reichelt).
    """
    form = history()

    def f(t):
        return torch.as_tensor(t, dtype=torch.float64).unsqueeze(-1) ** (k + 1) * tensor(1.0, 2.0)

    z, past = history_of(form, f, 1.0, H)
    pq, _ = form.predictor(z, past, k, H, 0)
    distance = f(1.0 + H) - pq[0] @ z
    # h^(k+1) y^(k+1), the difference of order k + 1.
    top = H ** (k + 1) * np.prod(np.arange(1, k + 2)) * tensor(1.0, 2.0)
    torch.testing.assert_close(distance, top, rtol=1e-8, atol=1e-10)
    constant = form.error_constant(past, k, H, 0)
    gamma = sum(1 / j for j in range(1, k + 1))
    newton_tol = 1 - form.alpha[k] / gamma
    assert constant == pytest.approx(1 / (k + 1) + newton_tol * gamma, rel=1e-12)


@both
@pytest.mark.parametrize("k", [2, 3, 4])
def test_errors_of_neighbouring_orders(history, k):
    """Those that order k - 1 and k + 1 would have made: each its constant times the difference one
    order up."""
    form = history()

    def f(t):
        return torch.exp(torch.as_tensor(t, dtype=torch.float64).unsqueeze(-1) * tensor(0.5, 0.3))

    z, past = history_of(form, f, 1.0, H)
    pq, _ = form.predictor(z, past, k, H, 0)
    y1 = f(1.0 + H)
    moved, past = form.update(z, past, k, H, y1 - pq[0] @ z, y1)
    scale = tensor(0.1, 0.2)
    exact = differences(f(1.0 + H - H * torch.arange(8, dtype=torch.float64)))
    found = form.neighbours(moved, past, k, H, scale)
    for order, error in zip((k - 1, k + 1), found, strict=True):
        constant = form.error_constant(tuple(H * j for j in range(7)), order, H, 0)
        expected = constant * float((exact[order + 1] / scale).square().mean().sqrt())
        assert error == pytest.approx(expected, rel=1e-6)


@both
def test_no_neighbours_beyond_one_and_five(history):
    form, (f, _) = history(), polynomial(5)
    z, past = history_of(form, f, 1.0, H)
    scale = tensor(1.0, 1.0)
    lowest, highest = form.neighbours(z, past, 1, H, scale), form.neighbours(z, past, 5, H, scale)
    assert lowest[0] is None and lowest[1] is not None
    assert highest[0] is not None and highest[1] is None


@both
@pytest.mark.parametrize("h", [H, -H])
def test_start(history, h):
    """From y0 and f0 alone: the prediction is Euler's step, and the weights say the same as the
    history."""
    form, y, f0 = history(), tensor(1.0, 2.0), tensor(0.5, -1.0)
    z, past = form.start(y, f0, h)
    pq, _ = form.predictor(z, past, 1, h, 0)
    torch.testing.assert_close(pq[0] @ z, y + h * f0)
    torch.testing.assert_close(torch.from_numpy(form.start_weights(h)) @ torch.stack((y, f0)), z)


def test_ndf_gains_what_its_paper_says():
    """Longer steps than BDF's at the same error: 26, 26, 26, 12 and 0 % (Shampine & Reichelt, table
    1)."""
    form = DifferenceHistory()
    gains = [(1 / (k + 1) / form.error_constant((), k, H, 0)) ** (1 / (k + 1)) for k in ORDERS]
    assert gains == pytest.approx([1.26, 1.26, 1.26, 1.12, 1.0], abs=5e-3)


def growth(form, k, hlambda):
    """Spectral radius of a step of y' = lambda y on an even grid."""
    past = () if isinstance(form, DifferenceHistory) else tuple(float(j) for j in range(form.rows))
    zero, unit = (
        torch.zeros(form.rows, 1, dtype=torch.float64),
        torch.eye(form.rows, dtype=torch.float64),
    )
    p, q = (row.numpy() for row in form.predictor(zero, past, k, 1.0, 0)[0])
    still = [
        form.update(unit[:, [j]], past, k, 1.0, 0 * tensor(1.0), tensor(p[j]))[0][:, 0]
        for j in range(form.rows)
    ]
    moved = form.update(zero, past, k, 1.0, tensor(1.0), tensor(1.0))[0][:, 0]
    c = hlambda / form.alpha[k]
    step = torch.stack(still, dim=1).numpy() + np.outer(moved.numpy(), (c * p - q) / (1 - c))
    return np.abs(np.linalg.eigvals(step)).max()


ANGLES = [
    (ValueHistory, (90, 90, 86.03, 73.35, 51.84)),
    (DifferenceHistory, (90, 90, 80, 66, 51.84)),
]


@every_order
@pytest.mark.parametrize(("history", "angles"), ANGLES, ids=["BDF", "NDF"])
def test_stability(history, k, angles):
    """A(alpha)-stable for the alpha of the literature, not for four degrees more; Hairer & Wanner
    II, sec. V.2."""
    form, radii = history(), np.logspace(-3, 4, 200)

    def worst(angle):
        return max(growth(form, k, r * np.exp(1j * np.pi * (1 - angle / 180))) for r in radii)

    assert worst(angles[k - 1] - 1) < 1 + 1e-9
    assert k < 3 or worst(angles[k - 1] + 4) > 1 + 1e-4


@both
@every_order
def test_pull_is_the_transpose_of_a_step(history, k):
    """<zbar, new history> moves with the old one as pull and read say (adjoints/discrete/bdf.py),
    for y1 = p z + d."""
    form = history()
    z = torch.randn(form.rows, 2, dtype=torch.float64, requires_grad=True)
    zbar = torch.randn(form.rows, 2, dtype=torch.float64)
    past = () if history is DifferenceHistory else tuple(H * j for j in range(form.rows))
    pq, _ = form.predictor(z.detach(), past, k, H, 0)
    # f(t, y) = M y / c with a constant matrix: (I - M) d = M p z - q z.
    m = tensor([0.3, 0.1], [-0.2, 0.4])
    predicted, history_term = pq @ z
    d = torch.linalg.solve(torch.eye(2, dtype=torch.float64) - m, m @ predicted - history_term)
    moved, _ = form.update(z, past, k, H, d, predicted + d)
    (expected,) = torch.autograd.grad((moved * zbar).sum(), z)
    dbar = form.read(zbar, k)
    lam = torch.linalg.solve((torch.eye(2, dtype=torch.float64) - m).T, dbar)
    torch.testing.assert_close(form.pull(zbar, k, pq, dbar, lam), expected, rtol=1e-11, atol=1e-11)
