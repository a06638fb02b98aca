"""Paths through observations: what lies between them, what fills the gaps, and what is refused."""

import math

import pytest
import torch

from pynode.nn import CubicHermitePath, LinearPath, RectilinearPath, ZeroOrderHold
from tests.support.cases import tensor

NAN = math.nan
TIMES = tensor(0.0, 1.0, 1.5, 3.0)
SCHEMES = [LinearPath, CubicHermitePath, RectilinearPath]
each_scheme = pytest.mark.parametrize("scheme", SCHEMES)


def series(batch=3, count=4, channels=2):
    return torch.randn(batch, count, channels, dtype=torch.float64)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: LinearPath(TIMES, x, time=False),
        lambda x: CubicHermitePath(TIMES, x, time=False),
        lambda x: ZeroOrderHold(TIMES, x),
    ],
    ids=["linear", "hermite", "held"],
)
@pytest.mark.parametrize("batched", [True, False])
def test_it_goes_through_its_observations(make, batched):
    x = series() if batched else series()[0]
    path = make(x)
    torch.testing.assert_close(path(TIMES), x.movedim(-2, 0), rtol=1e-13, atol=1e-13)
    assert torch.equal(path(1.25), path(tensor(1.25))[0]) and path(1.25).shape == (
        (3, 2) if batched else (2,)
    )
    assert path.observed.tolist() == path.knots.tolist() == TIMES.tolist()


def test_straight_lines():
    x = series()
    path = LinearPath(TIMES, x, time=False)
    torch.testing.assert_close(path(1.2), x[:, 1] + 0.4 * (x[:, 2] - x[:, 1]))
    torch.testing.assert_close(path.derivative(1.2), (x[:, 2] - x[:, 1]) / 0.5)
    # At a jump the one after it.
    torch.testing.assert_close(path.derivative(1.5), (x[:, 3] - x[:, 2]) / 1.5)


def test_the_cubic_has_the_slopes_of_backward_differences():
    """And both value and derivative are continuous, while no observation after the end of a piece
    matters to it."""
    x = series()
    path = CubicHermitePath(TIMES, x, time=False)
    chord = x.diff(dim=1) / TIMES.diff().unsqueeze(1)
    expected = torch.cat((chord[:, :1], chord), 1).movedim(1, 0)
    torch.testing.assert_close(path.derivative(TIMES), expected)
    before = TIMES[1:] - 1e-9
    torch.testing.assert_close(path.derivative(before), expected[1:], rtol=0, atol=1e-7)
    torch.testing.assert_close(path(before), x.movedim(1, 0)[1:], rtol=0, atol=1e-7)
    other = CubicHermitePath(TIMES, torch.cat((x[:, :3], series()[:, 3:]), 1), time=False)
    assert torch.equal(path(1.49), other(1.49)) and not torch.equal(path(1.51), other(1.51))


@each_scheme
def test_the_derivative_is_that_of_the_path(scheme):
    path = scheme(TIMES, series())
    for s in (0.3, 1.2, 1.7):
        s = torch.tensor(s, dtype=torch.float64)
        found = torch.func.jvp(path, (s,), (torch.ones_like(s),))[1]
        torch.testing.assert_close(path.derivative(s), found)


def test_rectilinear_time_goes_first():
    x = tensor(2.0, NAN, -1.0).unsqueeze(1)
    path = RectilinearPath([0.0, 1.0, 4.0], x)
    points = [path(float(s)).tolist() for s in range(5)]
    assert points == [[0, 2], [1, 2], [1, 2], [4, 2], [4, -1]]
    assert path.observed.tolist() == [0, 2, 4] and not path.in_time


def test_gaps():
    """Linearly between observations and constant outside of them; or held, with 0 for what has not
    been seen."""
    x = tensor(NAN, 1.0, NAN, 4.0, NAN).unsqueeze(1)
    t = [0.0, 1.0, 2.0, 4.0, 5.0]
    assert LinearPath(t, x, time=False)(tensor(*t)).flatten().tolist() == [1, 1, 2, 4, 4]
    assert CubicHermitePath(t, x, time=False)(tensor(*t)).flatten().tolist() == [1, 1, 2, 4, 4]
    assert ZeroOrderHold(t, x)(tensor(*t)).flatten().tolist() == [0, 1, 1, 4, 4]
    held = RectilinearPath(t, x)
    assert held(held.observed)[:, 1].tolist() == [0, 1, 1, 4, 4]


@pytest.mark.parametrize("scheme", [RectilinearPath, ZeroOrderHold])
def test_causal_schemes_do_not_look_ahead(scheme):
    x = series()
    x[torch.rand(x.shape) < 0.4] = NAN
    x[:, 3] = 1.0
    later = torch.cat((x[:, :3], x[:, 3:] + 5), 1)
    one, two = scheme(TIMES, x), scheme(TIMES, later)
    s = torch.linspace(0, float(one.observed[3]) - 1e-6, 20, dtype=torch.float64)
    values = one(s), two(s)
    assert torch.equal(*values) == (scheme is ZeroOrderHold)
    if scheme is RectilinearPath:  # the values wait until the time has arrived
        s = s[s <= one.observed[3] - 1]
        assert torch.equal(one(s), two(s))


@each_scheme
def test_times_of_its_own_for_every_row(scheme):
    """The same as the rows by themselves; and a series that ends earlier rests there."""
    x, times = series(), torch.rand(3, 4, dtype=torch.float64).cumsum(1)
    times[1, 3] = NAN
    x[0, 2, 1] = x[1, 3] = NAN
    path = scheme(times, x)
    for row, count in ((0, 4), (1, 3), (2, 4)):
        alone = scheme(times[row : row + 1, :count], x[row : row + 1, :count])
        s = torch.linspace(0, float(alone.span[1]), 31, dtype=torch.float64)
        torch.testing.assert_close(path(s)[:, row], alone(s)[:, 0])
        torch.testing.assert_close(path(path.observed)[:count, row, 0], times[row, :count])
    rest = torch.linspace(float(path.observed[2]), float(path.span[1]), 9, dtype=torch.float64)
    assert not path.derivative(rest)[:, 1].any() and path.derivative(rest)[:, 0].any()


@pytest.mark.parametrize("scheme", [*SCHEMES, ZeroOrderHold])
def test_one_state_after_another_or_side_by_side(scheme):
    """What a field is asked for: s alone, under vmap, and one s a row."""
    path = scheme(TIMES, series())
    s = tensor(0.2, 1.5, 2.9)
    expected = path(s)
    many = torch.func.vmap(lambda s: path.at(s, path.coefficients))(s)
    rows = path.at(s.unsqueeze(1), path.coefficients)
    torch.testing.assert_close(many, expected)
    torch.testing.assert_close(rows, expected.diagonal().T)
    torch.testing.assert_close(path.at(s[1], path.coefficients), expected[1])
    shared = scheme(TIMES, series()[0])
    torch.testing.assert_close(shared.at(s.unsqueeze(1), shared.coefficients), shared(s))


@each_scheme
def test_gradients_of_the_values(scheme):
    x = series(2).requires_grad_()
    holes = torch.zeros(x.shape, dtype=torch.bool)
    holes[0, 1, 0] = holes[1, 2, 1] = True
    s = tensor(0.3, 1.2, 2.4)

    def read(x):
        return scheme(TIMES, x.masked_fill(holes, NAN))(s)

    assert torch.autograd.gradcheck(read, x)


def test_mistakes_are_told():
    x = series()
    bad = TIMES.expand(3, 4).clone()
    bad[2, 2] = 0.5
    for times, values, message in (
        (
            [0.0, 1.0],
            x,
            r"values of shape \(3, 4, 2\) go with times \(4,\) or \(3, 4\), not \(2,\)",
        ),
        ([0.0], x[:, :1], "at least two observations, and there is 1; leave such a series out"),
        (tensor(0.0, 1.0, 1.0, 2.0), x, "increase strictly, but 1 is followed by 1; sort"),
        (bad, x, r"increase strictly, but 1 is followed by 0\.5 in row 2; sort"),
        (TIMES + 1e9, x.float(), r"in torch.float32 they are the same: subtract the first time"),
        (TIMES, x[0, :, 0], r"unsqueeze\(-1\)"),
        (TIMES, x / 0, "must be finite; mark what was not observed by NaN"),
        (
            tensor(0.0, 1.0, 2.0, NAN),
            x,
            "times of a path must be finite; NaN is possible only at the end of a row",
        ),
        (torch.tensor([[0.0, 1.0, NAN, 2.0]] * 3), x, "NaN is possible only at the end of a row"),
        (torch.tensor([[0.0, NAN, NAN, NAN]] * 3), x, "and row 0 has 1; leave such a series out"),
        (
            TIMES,
            x.index_fill(2, torch.tensor(1), NAN),
            "channel 1 of row 0 was never observed: put a neutral value",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            LinearPath(times, values)
    with pytest.raises(TypeError, match=r"floating-point tensor, not torch\.int64"):
        LinearPath(TIMES, torch.ones(4, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="get no gradients: detach them"):
        CubicHermitePath(TIMES.clone().requires_grad_(), x)
    with pytest.raises(ValueError, match="same times for all rows"):
        ZeroOrderHold(TIMES.expand(3, 4), x)
    with pytest.raises(ValueError, match=r"takes one s, or \(m,\) of them"):
        LinearPath(TIMES, x)(TIMES.expand(2, 4))
