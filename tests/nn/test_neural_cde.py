"""NeuralCDE: closed forms, the same however fast the path is run through; gradients; what it
learns."""

import pytest
import torch
from torch import nn

from pynode.nn import CubicHermitePath, LinearPath, NeuralCDE, RectilinearPath, ZeroOrderHold
from tests.support.cases import directional, tensor

TIGHT = {"method": "tsit5", "rtol": 1e-9, "atol": 1e-11}
SCHEMES = [LinearPath, CubicHermitePath, RectilinearPath]
each_scheme = pytest.mark.parametrize("scheme", SCHEMES)


class Matrices(nn.Module):
    """dz = (A_1 dX_1 + A_2 dX_2 + ...) z: of z (..., h) the matrix (..., h, channels)."""

    def __init__(self, matrices):
        super().__init__()
        self.matrices = nn.Parameter(torch.tensor(matrices, dtype=torch.float64))

    def forward(self, z):
        return torch.einsum("chk,...k->...hc", self.matrices, z)


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


def network(hidden=4, channels=3):
    return nn.Sequential(
        nn.Linear(hidden, 16),
        nn.Tanh(),
        nn.Linear(16, hidden * channels),
        nn.Tanh(),
        nn.Unflatten(-1, (hidden, channels)),
    ).double()


def data(batch=5, count=6):
    return torch.rand(batch, count, dtype=torch.float64).cumsum(1), torch.randn(
        batch, count, 2, dtype=torch.float64
    )


@each_scheme
def test_a_linear_equation_of_one_channel(scheme):
    """dz = a z dX has z = z_0 exp(a (X - X_0)), whatever the path; the time has no part in it."""
    times, x = data()
    field = Matrices([[[0.0]], [[0.7]], [[-0.2]]])
    model = NeuralCDE(field, nn.Linear(3, 1).double(), **TIGHT)
    path = scheme(times, x)
    z = model(path, path.observed)
    expected = z[0] * torch.exp(
        0.7 * (x[..., :1] - x[:, :1, :1]) - 0.2 * (x[..., 1:] - x[:, :1, 1:])
    ).movedim(1, 0)
    torch.testing.assert_close(z, expected, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(z[0], model.initial(torch.cat((times[:, :1], x[:, 0]), 1)))
    assert torch.equal(model(path), model(path, path.span)[-1])


def test_straight_pieces_are_matrix_exponentials():
    """Matrices that do not commute: the product of exponentials of the increments, which sees the
    order of events."""
    times, x = data(1)
    A = torch.randn(3, 2, 2, dtype=torch.float64) / 2
    model = NeuralCDE(Matrices(A.tolist()), nn.Linear(3, 2).double(), **TIGHT)
    z = model(LinearPath(times, x), torch.tensor([0.0, 5.0]))
    expected = z[0, 0]
    for step in torch.cat((times.unsqueeze(2), x), 2)[0].diff(dim=0):
        expected = torch.linalg.matrix_exp(torch.einsum("c,chk->hk", step, A)) @ expected
    torch.testing.assert_close(z[1, 0], expected, rtol=1e-7, atol=1e-8)


def test_it_does_not_matter_how_fast_the_path_is_run_through():
    """The same times for all rows: in time, or by the number of the observation."""
    times, x = data()
    model = NeuralCDE(network(), nn.Linear(3, 4).double(), **TIGHT)
    in_time, by_number = LinearPath(times[0], x), LinearPath(times[:1].expand(5, 6), x)
    assert in_time.in_time and not by_number.in_time
    torch.testing.assert_close(model(in_time), model(by_number), rtol=1e-6, atol=1e-7)


@each_scheme
@pytest.mark.parametrize(
    "options", [{}, {"batched": True}, {"method": "rodas5p", "rtol": 1e-5, "atol": 1e-6}], ids=str
)
def test_gradients_are_those_of_differences(scheme, options):
    """Parameters and the values of the path, one step for all rows and a step a row."""
    times, x = data(3, 4)
    x[0, 1, 0] = float("nan")
    known = ~x.isnan()
    values = x[known].requires_grad_()
    model = NeuralCDE(network(), nn.Linear(3, 4).double(), **{**TIGHT, **options})
    parameter = model.field[0].weight

    def value():
        return model(scheme(times, x.masked_scatter(known, values))).square().sum()

    for leaf in (parameter, values):
        exact, difference = directional(value, [leaf])
        assert difference == pytest.approx(exact, rel=5e-5, abs=1e-6)


def test_rows_stand_alone():
    times, x = data()
    times[2, 4:] = float("nan")
    model = NeuralCDE(network(), nn.Linear(3, 4).double(), **TIGHT)
    together = model(CubicHermitePath(times, x))
    for row, count in ((0, 6), (2, 4)):
        alone = model(CubicHermitePath(times[row : row + 1, :count], x[row : row + 1, :count]))
        torch.testing.assert_close(together[row], alone[0], rtol=1e-7, atol=1e-8)


@each_scheme
@pytest.mark.parametrize("batched", [False, True])
def test_series_that_end_early_cost_no_accuracy(scheme, batched):
    """Where one of them comes to rest the derivative jumps: on a cubic path a step that ends there
    without knowing is wrong by ten times the tolerance and more."""
    times, x = data(8, 12)
    times[1, 6:] = times[2, 4:] = times[3, 9:] = float("nan")
    field, initial = network(), nn.Linear(3, 4).double()
    path = scheme(times, x)
    with torch.no_grad():
        exact = NeuralCDE(field, initial, **TIGHT)(path)
        model = NeuralCDE(field, initial, method="tsit5", rtol=1e-4, atol=1e-5, batched=batched)
        torch.testing.assert_close(model(path), exact, rtol=0, atol=2e-4)
    assert model.stats.rejected <= 0.01 * model.stats.accepted


@pytest.mark.parametrize("batched", [False, True])
def test_backwards_it_finds_where_it_began(batched):
    """At each corner the piece before it: no step is rejected on the way there, nor on the way
    back."""
    times, x = data(3, 12)
    field, path = network(), LinearPath(times, x)
    there = NeuralCDE(
        field, nn.Linear(3, 4).double(), method="tsit5", rtol=1e-6, atol=1e-8, batched=batched
    )
    with torch.no_grad():
        end = there(path)
        back = NeuralCDE(
            field, Constant(end), method="tsit5", rtol=1e-6, atol=1e-8, batched=batched
        )
        start = back(path, path.span.flip(0))[-1]
    torch.testing.assert_close(start, there.initial(path(0.0)), rtol=0, atol=1e-5)
    assert there.stats.rejected == back.stats.rejected == 0


def test_jumps_of_the_derivative_cost_no_rejected_steps():
    """The method starts anew at each corner, and no step runs across one."""
    times, x = data(1, 12)
    model = NeuralCDE(network(), nn.Linear(3, 4).double(), method="tsit5", rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        model(LinearPath(times, x))
        aligned = model.stats
        path = LinearPath(times, x)
        path.smooth = 1  # as if there were no corners
        model(path)
    assert aligned.rejected < model.stats.rejected and aligned.nfe < model.stats.nfe


def test_it_learns_the_sense_of_a_turn():
    """Left or right, from irregular, incomplete series: an integral along the path, not a value of
    it."""
    angle = 6.3 * torch.rand(64, 1) + torch.rand(64, 12).cumsum(1) * (
        torch.arange(64).view(-1, 1) % 2 * 2 - 1
    )
    times, x = torch.rand(64, 12).add(0.1).cumsum(1), torch.stack((angle.cos(), angle.sin()), 2)
    x[:, 1:][torch.rand(64, 11, 2) < 0.3] = float("nan")
    cde = NeuralCDE(network().float(), nn.Linear(3, 4), method="bs3", rtol=1e-2, atol=1e-3)
    readout, target = nn.Linear(4, 1), torch.arange(64) % 2
    optimizer = torch.optim.Adam([*cde.parameters(), *readout.parameters()], lr=3e-2)
    path = CubicHermitePath(times[:48], x[:48])
    for _ in range(18):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(
            readout(cde(path))[:, 0], target[:48].float()
        )
        loss.backward()
        optimizer.step()
    found = readout(cde(CubicHermitePath(times[48:], x[48:])))[:, 0] > 0
    assert (found == (target[48:] > 0)).float().mean() > 0.9


def test_mistakes_are_told():
    times, x = data()
    model = NeuralCDE(network(), nn.Linear(3, 4).double(), **TIGHT)
    with pytest.raises(
        TypeError,
        match="needs a path with a derivative, not ZeroOrderHold: make a CubicHermitePath",
    ):
        model(ZeroOrderHold(times[0], x))
    with pytest.raises(TypeError, match="not Tensor"):
        model(x)
    with pytest.raises(ValueError, match=r"path runs from 0 to 5, and 6 lies outside"):
        model(LinearPath(times, x), tensor(0.0, 6.0))
    with pytest.raises(TypeError, match="t must be a sequence of numbers"):
        model(LinearPath(times, x), 1.0)
    with pytest.raises(
        ValueError, match=r"a path of 2 channels the field must return \(5, 4, 2\), not \(5, 4, 3\)"
    ):
        NeuralCDE(network(), nn.Linear(2, 4).double(), **TIGHT)(LinearPath(times, x, time=False))
    with pytest.raises(TypeError, match=r"initial must be an nn\.Module"):
        NeuralCDE(network(), lambda x: x)
    with pytest.raises(TypeError, match=r"field must be an nn\.Module"):
        NeuralCDE(lambda z: z, nn.Linear(3, 4))
