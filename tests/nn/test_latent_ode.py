"""LatentODE: irregular and incomplete series, what the recognition network may see, prediction, and
the bound."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from pynode import solve
from pynode.nn import LatentODE
from pynode.nn.latent_ode import _distinct
from tests.support.cases import directional

TIGHT = {"rtol": 1e-8, "atol": 1e-9}
ENCODERS = ["gru", "ode-rnn"]
every_encoder = pytest.mark.parametrize("encoder", ENCODERS)


def model_of(encoder="gru", data_dim=2, latent_dim=3, **options):
    torch.manual_seed(0)
    field = nn.Sequential(nn.Linear(latent_dim, 8), nn.Tanh(), nn.Linear(8, latent_dim))
    options = {"hidden": 5, **TIGHT, **options}
    return LatentODE(
        field, nn.Linear(latent_dim, data_dim), data_dim, latent_dim, encoder=encoder, **options
    ).double()


def series(n=4, m=6, d=2):
    """x (n, m, d) at times of their own (n, m), from 0.1 on."""
    generator = torch.Generator().manual_seed(1)
    t = (0.2 + torch.rand(n, m, generator=generator, dtype=torch.float64)).cumsum(1)
    return torch.randn(n, m, d, generator=generator, dtype=torch.float64), t


def test_times_of_their_own_are_those_of_each_series_alone():
    """Prediction at (B, T) and at (T,) times, in any order, repeated, at t_0 and missing, against
    solve."""
    model, (x, t) = model_of(), series()
    at = torch.tensor(
        [
            [2.0, 0.0, 1.0, 1.0],
            [0.5, 3.0, math.nan, 0.1],
            [0.0, 0.0, 0.0, 0.0],
            [4.0, 3.0, 2.0, 1.0],
        ]
    ).double()
    z = model.encode(x, t).mean
    found = model.predict(x, t, at)
    for row in range(4):
        for j, when in enumerate(at[row].tolist()):
            if math.isnan(when):
                assert found[row, j].isnan().all()
                continue
            state = z[row]
            if when > 0:
                state = solve(
                    lambda t, y: model.flow.field(y), state, [0.0, when], method="tsit5", **TIGHT
                ).y[-1]
            torch.testing.assert_close(found[row, j], model.decoder(state), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(
            model.predict(x, t, at[row])[row], found[row], rtol=1e-6, atol=1e-7, equal_nan=True
        )
    assert model(x, t).shape == x.shape and model.predict(x, t, at[0], samples=7).shape == (
        7,
        4,
        4,
        2,
    )
    assert model.predict(x, t, at, samples=7).shape == (7, 4, 4, 2)
    torch.testing.assert_close(
        model.predict(x, t, at[0]), model.predict(x, t, at[0].expand(4, 4)), rtol=1e-6, atol=1e-7
    )


def test_draws_belong_to_their_series():
    """With q almost a point, draws at (B, T) times are the mean's prediction."""
    model, (x, t) = model_of(), series()
    with torch.no_grad():
        model.encoder.head[-1].weight[3:] = 0
        model.encoder.head[-1].bias[3:] = -40
        # Never a point, whose density is not finite.
        assert 1e-5 <= model.encode(x, t).stddev.max() < 1.1e-5
        torch.testing.assert_close(
            model.predict(x, t, t, samples=3), model(x, t).expand(3, -1, -1, -1), rtol=0, atol=2e-4
        )
        torch.testing.assert_close(
            model.predict(x, t, t[0], samples=3)[1], model.predict(x, t, t[0]), rtol=0, atol=2e-4
        )


def test_times_distinct_and_in_order():
    t = torch.tensor(
        [[2.0, 1.0, 1.0, math.nan], [0.0, 0.0, math.nan, 0.0], [3.0, 2.0, 1.0, 0.5]],
        dtype=torch.float64,
    )
    grid, place = _distinct(t, 0.0)
    assert (grid.diff(dim=1) > 0).all() and not grid[:, 0].any()
    assert torch.equal(grid.gather(1, place), t.nan_to_num(0.0))
    # Filled up close behind the last time.
    assert (grid[:2, -1] <= t.nan_to_num(0.0)[:2].amax(1) + 1e-5).all()


@every_encoder
def test_what_was_not_seen_does_not_count(encoder):
    """Filling up, in the middle or at the end, whatever stands there, and missing components: q and
    the bound stay."""
    model, (x, t) = model_of(encoder), series()
    seen = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.7
    seen[:, 2] = False
    q, missing = model.encode(x, t, seen), x.masked_fill(~seen, math.nan)
    garbled = x.masked_fill(~seen, 1e9)
    wild = t.clone()
    wild[:, 2] = torch.tensor([math.nan, -5.0, 100.0, math.inf])
    keep = [0, 1, 3, 4, 5]
    cases = [
        (garbled, t, seen),
        (missing, t, None),
        (garbled, wild, seen),
        (x[:, keep], t[:, keep], seen[:, keep]),
    ]
    values = []
    for case in cases:
        torch.testing.assert_close(model.encode(*case).mean, q.mean, rtol=1e-10, atol=1e-12)
        torch.manual_seed(5)
        values.append(model.elbo(*case))
        torch.testing.assert_close(values[-1], values[0], rtol=1e-6, atol=1e-6)
    assert values[0].shape == (4,) and torch.isfinite(values[0]).all()
    grads = torch.autograd.grad(values[1].sum(), [p for p in model.parameters() if p.requires_grad])
    assert all(torch.isfinite(grad).all() for grad in grads)
    other = x.clone()
    other[seen] += 0.5
    assert not torch.allclose(model.encode(other, t, seen).mean, q.mean, atol=1e-3)
    torch.manual_seed(5)
    torch.testing.assert_close(
        model.elbo(garbled, t, seen, given=torch.ones(4, 6)), values[0], rtol=1e-6, atol=1e-6
    )


def test_the_hidden_state_of_an_ode_rnn_follows_its_field_between_observations():
    """dh/ds = -2 h over the gap to the observation before: by hand, from the last observation to
    the first and on to t_0."""
    field = nn.Linear(5, 5)
    model, (x, t) = model_of("ode-rnn", encoder_field=field), series(4, 2)
    with torch.no_grad():
        field.weight.copy_(-2 * torch.eye(5)), field.bias.zero_()
        h, reading = torch.zeros(4, 5, dtype=torch.float64), torch.cat((x, torch.ones_like(x)), -1)
        for i, gap in ((1, t[:, 1] - t[:, 0]), (0, t[:, 0])):
            h = model.encoder.cell(reading[:, i], h) * torch.exp(-2 * gap).unsqueeze(1)
        torch.testing.assert_close(
            model.encode(x, t).mean, model.encoder.head(h)[:, :3], rtol=1e-6, atol=1e-7
        )


@every_encoder
def test_the_recognition_network_knows_the_times(encoder):
    """q of a series depends on the gaps between observations, and on that to t_0; other series do
    not matter."""
    model, (x, t) = model_of(encoder), series()
    q = model.encode(x, t)
    for later in (t + 0.5, torch.cat((t[:, :3], t[:, 3:] + 0.5), 1)):
        assert (model.encode(x, later).mean - q.mean).abs().amax(1).min() > 1e-4
    torch.testing.assert_close(model.encode(x[1:2], t[1:2]).mean, q.mean[1:2], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(model.encode(x, t[0]).mean[0], q.mean[0], rtol=1e-6, atol=1e-7)


def test_the_bound_is_its_definition():
    model, (x, t) = model_of(noise=0.5), series()
    seen = torch.ones_like(x, dtype=torch.bool)
    seen[0, 1, 1] = seen[2, 3:] = False
    q = model.encode(x, t, seen)
    torch.manual_seed(7)
    z = q.rsample((3,))
    fit = (Normal(model.decode(z, t), 0.5).log_prob(x) * seen).sum((-2, -1)).mean(0)
    divergence = kl_divergence(q.base_dist, Normal(0.0, 1.0)).sum(-1)
    for weight in (1.0, 0.25):
        torch.manual_seed(7)
        found = model.elbo(x, t, seen, kl_weight=weight, samples=3)
        torch.testing.assert_close(found, fit - weight * divergence, rtol=1e-6, atol=1e-6)


def test_given_hides_the_rest_from_the_recognition_network():
    model, (x, t) = model_of(), series()
    given = torch.arange(6).expand(4, 6) < 3
    torch.manual_seed(2)
    found = model.elbo(x, t, given=given)
    torch.manual_seed(2)
    series_drawn = model.decode(model.encode(x, t, given).rsample((1,)), t)[0]
    fit = Normal(series_drawn, 0.1).log_prob(x).sum((-2, -1))
    torch.testing.assert_close(
        found, fit - kl_divergence(model.encode(x, t, given), model._prior(x)), rtol=1e-6, atol=1e-6
    )


@every_encoder
@pytest.mark.parametrize("shared", [True, False], ids=["(T,)", "(B, T)"])
def test_the_gradient_is_that_of_differences(encoder, shared):
    model, (x, t) = model_of(encoder, learn_noise=True), series(3, 4)
    t = t[0] if shared else t

    def value():
        torch.manual_seed(2)
        return model.elbo(x, t).sum()

    exact, difference = directional(value, list(model.parameters()))
    assert difference == pytest.approx(exact, rel=1e-4, abs=1e-4)


def test_a_field_of_time_and_a_stiff_method():
    class Timed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(3, 2).double()

        def forward(self, t, z):
            return self.net(torch.cat((z, t.expand(*z.shape[:-1], 1)), -1))

    field, (x, t) = Timed(), series()
    found = []
    for method in ("tsit5", "rodas5p"):
        torch.manual_seed(0)
        model = LatentODE(field, nn.Linear(2, 2), 2, 2, method=method, **TIGHT).double()
        found.append(model(x, t))
        torch.testing.assert_close(model.predict(x, t, t[1])[1], found[-1][1], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@every_encoder
def test_it_learns_decay_and_predicts_beyond_the_data(encoder):
    """x = a exp(-t) with random a, at times of their own, the encoder sees t < 1: nearer than the
    mean, for t > 1 too."""
    torch.manual_seed(0)
    a = torch.randn(64, 1)
    t = (2 * torch.rand(64, 6)).sort(1).values
    t[:, 0] *= 0.2
    truth = (a * (-t).exp()).unsqueeze(-1)
    x, given = truth + 0.05 * torch.randn_like(truth), t < 1
    options = {"encoder": encoder, "hidden": 8, "noise": 0.1, "rtol": 1e-2, "atol": 1e-3}
    model = LatentODE(nn.Linear(2, 2), nn.Linear(2, 1), 1, 2, **options)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-2)
    for _ in range(40 if encoder == "gru" else 30):
        optimizer.zero_grad()
        (-model.elbo(x, t, given=given, kl_weight=0.3).mean() / 6).backward()
        optimizer.step()
    with torch.no_grad():
        error = (model.predict(x, t, t, given) - truth)[..., 0]
    for part in given, ~given:
        assert error[part].square().mean() < 0.15 * truth[..., 0][part].square().mean()
    assert model.sample(5, [0.0, 1.0, 3.0]).shape == (5, 3, 1)


def test_mistakes_are_told():
    model, (x, t) = model_of(), series()
    late, twice = t.clone(), t.clone()
    late[1, 4] = t[1, 2]
    twice[2, 1] = t[2, 0]
    seen = torch.ones(4, 6, dtype=torch.bool)
    seen[3] = False
    holed = x.clone()
    holed[0, 2] = math.nan
    for arguments, said in [
        (
            (x, late),
            (
                r"the times of a series must increase, but in series 1 the observation 4, at t ="
                r" .*sort the times"
            ),
        ),
        ((x, twice), "in series 2 the observation 1.*merge repeated ones"),
        (
            (x, t, seen),
            r"nothing was seen of series 3: leave it out, or draw such series with sample\(\)",
        ),
        ((holed, t, torch.ones(4, 6)), "not finite, but the mask says that they were seen"),
        ((x, t - 5), "something was seen before t0 = 0, .*give the model a smaller t0"),
        ((x[0], t[0]), r"x must be \(B, T, 2\), not \(6, 2\); a single series is x.unsqueeze\(0\)"),
        ((x[..., :1], t), r"x must be \(B, T, 2\), not \(4, 6, 1\)"),
        ((x, t[:, :5]), r"t must be \(6,\) or \(4, 6\), a time an observation, not \(4, 5\)"),
        ((x, t, seen[:2]), r"a mask must be \(4, 6, 2\) or \(4, 6\), not \(2, 6\)"),
    ]:
        for call in (model.encode, model.elbo, model):
            with pytest.raises(ValueError, match=said):
                call(*arguments)
    with pytest.raises(ValueError, match=r"a mask must be .* not \(6,\)"):
        model.elbo(x, t, given=seen[0])
    z = model.encode(x, t).mean
    with pytest.raises(
        ValueError, match="times must be finite, and none before t0 = 0: choose a smaller t0"
    ):
        model.decode(z, [-1.0, 2.0])
    with pytest.raises(
        ValueError,
        match=r"times must be \(T,\), or \(4, T\) with a row for each series, not \(2, 6\)",
    ):
        model.decode(z, t[:2])
    with pytest.raises(ValueError, match=r"z must have shape \(\.\.\., B, 3\), not \(3,\)"):
        model.decode(z[0], t[0])
    field, decoder = nn.Linear(3, 3), nn.Linear(3, 2)
    for changes, error, said in [
        ({"encoder": "lstm"}, ValueError, "encoder must be one of gru, ode-rnn, not 'lstm'"),
        (
            {"encoder_field": nn.Linear(5, 5)},
            ValueError,
            "encoder_field is only for encoder='ode-rnn'",
        ),
        (
            {"encoder": "ode-rnn", "encoder_field": torch.tanh},
            TypeError,
            r"encoder_field must be an nn\.Module",
        ),
        ({"hidden": 0}, ValueError, "hidden must be an integer of at least 1, not 0"),
        ({"noise": 0.0}, ValueError, "noise must be a positive standard deviation"),
        ({"last_only": True}, TypeError, "last_only is no option of a model over solve"),
        (
            {"batched": True},
            ValueError,
            r"batched follows from the times, \(T,\) or \(B, T\): remove it",
        ),
    ]:
        with pytest.raises(error, match=said):
            LatentODE(field, decoder, 2, 3, **changes)
    with pytest.raises(TypeError, match=r"decoder must be an nn\.Module.* not function"):
        LatentODE(field, lambda z: z, 2, 3)
    with pytest.raises(ValueError, match=r"the decoder returned shape .* must be data_dim = 2"):
        LatentODE(field, nn.Linear(3, 4), 2, 3).decode(torch.zeros(4, 3), [0.0, 1.0])
