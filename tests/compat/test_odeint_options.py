"""torchdiffeq's interface: the options of its methods."""

import warnings

import pytest
import torch

from pynode import odeint
from pynode.compat.grid import GridIntegrator
from pynode.compat.methods import ADAMS, EITHER, FIXED
from tests.support.cases import tensor
from tests.support.odeint import Driven, decay


def test_step_t_and_jump_t_are_landed_on():
    ends, asked = [], []

    def f(t, y):
        asked.append(float(t))
        return y if t < 0.5 else -y

    f.callback_accept_step = lambda t0, y0, dt: ends.append(float(t0 + dt))
    y = odeint(
        f,
        tensor(1.0),
        tensor(0.0, 1.0),
        options={"jump_t": tensor(0.5), "step_t": tensor(0.25, 7.0, -3.0)},
    )
    assert 0.25 in ends and 0.5 in ends and 0.5 not in asked
    torch.testing.assert_close(y[-1], tensor(1.0), rtol=1e-8, atol=0)
    reverse = odeint(f, tensor(1.0), tensor(1.0, 0.0), options={"jump_t": tensor(0.5)})
    torch.testing.assert_close(reverse[-1], tensor(1.0), rtol=1e-8, atol=0)
    for twice in ({"step_t": tensor(0.3, 0.3)}, {"step_t": tensor(0.3), "jump_t": tensor(0.3)}):
        with pytest.raises(ValueError, match="must not have any repeated elements"):
            odeint(f, tensor(1.0), tensor(0.0, 1.0), options=twice)


def test_steps_are_bounded_and_counted():
    def sizes(**options):
        taken = []

        def f(t, y):
            return 50 * torch.cos(50 * t) + 0 * y

        f.callback_accept_step = lambda t0, y0, dt: taken.append(float(dt))
        odeint(f, tensor(0.0), tensor(0.0, 1.0), options=options)
        return taken

    assert max(sizes(max_step=0.01)) <= 0.01 * 1.01
    assert len(sizes(min_step=0.2)) < 12 < len(sizes())
    assert sizes(first_step=1e-3)[0] == pytest.approx(1e-3)
    with pytest.raises(AssertionError, match=r"max_num_steps exceeded \(3>=3\)"):
        sizes(max_num_steps=3)
    with pytest.raises(RuntimeError, match="raise it"):
        sizes(max_num_steps=3)


def test_safety_and_factors_reach_the_controller():
    def count(**options):
        f = Driven()
        odeint(f, tensor(1.0, 0.0), tensor(0.0, 20.0), options=options)
        return f.calls

    assert count(safety=0.5) > 1.2 * count(safety=0.9)
    assert count(ifactor=1.01, first_step=1e-3) > count(ifactor=10.0, first_step=1e-3)


def test_grids():
    seen = []

    def f(t, y):
        return y

    f.callback_step = lambda t0, y0, dt: seen.append((float(t0), float(dt)))
    odeint(f, tensor(1.0), tensor(0.0, 0.35), method="euler", options={"step_size": 0.1})
    assert [t for t, _ in seen] == pytest.approx([0.0, 0.1, 0.2, 0.3]) and seen[-1][
        1
    ] == pytest.approx(0.05)
    grid = tensor(1.0, 0.3, 0.0)
    y = odeint(
        f,
        tensor(1.0),
        tensor(1.0, 0.0),
        method="euler",
        options={"grid_constructor": lambda f, y0, t: grid},
    )
    torch.testing.assert_close(y[-1], tensor(0.3 * 0.7), rtol=1e-14, atol=0)
    with pytest.raises(ValueError, match="mutually exclusive"):
        odeint(
            f,
            tensor(1.0),
            tensor(0.0, 1.0),
            method="rk4",
            options={"step_size": 1, "grid_constructor": lambda *_: grid},
        )
    with pytest.raises(ValueError, match="must begin at"):
        odeint(
            f,
            tensor(1.0),
            tensor(0.0, 1.0),
            method="rk4",
            options={"grid_constructor": lambda f, y0, t: grid},
        )


def test_interpolation_between_grid_points():
    """y = t^3 / 2: its cubic through both ends is itself."""
    t = tensor(0.0, 0.25, 1.0)
    for kind, expected in (("linear", 0.25 / 2), ("cubic", 0.25**3 / 2)):
        options = {"step_size": 1.0, "interp": kind}
        y = odeint(lambda t, y: 1.5 * t**2 + 0 * y, tensor(0.0), t, method="rk4", options=options)
        assert float(y[1, 0]) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="Unknown interpolation method"):
        odeint(decay, tensor(0.0), t, method="rk4", options={"interp": "quintic"})


# implicit_midpoint asks f at the middle of steps alone.
@pytest.mark.parametrize(
    "method", [m for m in (*FIXED, *EITHER, *ADAMS) if m != "implicit_midpoint"]
)
def test_perturb_keeps_off_the_grid_points(method):
    for perturb in (True, False):
        asked = []
        options = {"step_size": 0.5, "perturb": perturb}
        f = lambda t, y, to=asked: (to.append(float(t)), -y)[1]  # noqa: E731
        odeint(f, tensor(1.0), tensor(0.0, 2.0), method=method, options=options)
        assert bool({0.0, 0.5, 1.0, 1.5} & set(asked)) is not perturb


def test_norms_get_what_the_user_has():
    shapes = []

    def norm(y):
        shapes.append([tuple(x.shape) for x in y] if isinstance(y, tuple) else tuple(y.shape))
        return max(x.abs().max() for x in y) if isinstance(y, tuple) else y.abs().max()

    odeint(decay, torch.ones(2, 3), torch.tensor([0.0, 1.0]), options={"norm": norm})
    odeint(
        lambda t, y: (-y[0], -y[1]),
        (torch.tensor(1.0), torch.ones(4)),
        torch.tensor([0.0, 1.0]),
        options={"norm": norm},
    )
    assert (2, 3) in shapes and [(), (4,)] in shapes


def test_unknown_options_and_callbacks_warn():
    t = torch.tensor([0.0, 1.0])
    for method in ("dopri5", "fbdf"):
        with pytest.warns(UserWarning, match="Unexpected arguments {'nonsense': 1}") as told:
            odeint(decay, torch.ones(1), t, method=method, options={"nonsense": 1})
        assert told[0].filename == __file__

    def f(t, y):
        return -y

    f.callback_accept_step = lambda *_: None
    with pytest.warns(
        UserWarning, match="Solver 'rk4' does not support callbacks {'callback_accept_step'}"
    ):
        odeint(f, torch.ones(1), t, method="rk4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        odeint(f, torch.ones(1), t)


def test_adams_without_its_corrector():
    """options['implicit'] of torchdiffeq's Adams-Moulton methods; the explicit one has no such
    choice."""

    def run(method, **options):
        t = torch.linspace(0, 2, 21).double()
        return odeint(
            lambda t, y: -y * torch.cos(t), tensor(1.0), t, method=method, options=options
        )

    plain = run("explicit_adams")
    assert torch.equal(run("fixed_adams", implicit=False), plain) and torch.equal(
        run("implicit_adams", implicit=False), plain
    )
    assert not torch.equal(run("implicit_adams"), plain)
    with pytest.warns(UserWarning, match="Unexpected arguments {'implicit': True}"):
        assert torch.equal(run("explicit_adams", implicit=True), plain)


@pytest.mark.parametrize("method", ["dopri5", "fbdf"])
def test_tolerances_of_the_parts_in_a_tensor(method):
    """One for each part of a tuple, as in a sequence of numbers."""

    def run(rtol, atol):
        y0 = tensor(1.0, 2.0, 3.0), tensor(1.0)
        return odeint(
            lambda t, y: (-y[0], y[0].sum() * y[1]),
            y0,
            tensor(0.0, 1.0),
            rtol=rtol,
            atol=atol,
            method=method,
        )[1]

    found = run(1e-4, tensor(1e-3, 1e-9))
    assert torch.equal(found, run(1e-4, (1e-3, 1e-9))) and not torch.equal(
        found, run(1e-4, (1e-9, 1e-3))
    )
    with pytest.raises(AssertionError, match="same length as the tuple"):
        run(1e-4, tensor(1e-3, 1e-3, 1e-3))


@pytest.mark.parametrize("method", ["dopri5", "fbdf"])
def test_tolerances_broadcast_against_the_state(method):
    def run(atol):
        return odeint(
            decay, torch.ones(2, 3).double(), tensor(0.0, 1.0), rtol=0.0, atol=atol, method=method
        )

    atol = tensor(1e-3, 1e-6, 1e-9)
    assert torch.equal(run(atol), run(atol.expand(2, 3))) and not torch.equal(run(atol), run(1e-3))


def test_a_jump_where_a_solve_begins():
    """Backwards f is what it was before; of the other side a single value would spoil the first
    step.

    Jumps outside of the span are nothing to stop at.
    """
    asked = []

    def f(t, y):
        asked.append(float(t))
        return y if t < 0.5 else -50 * y

    y = odeint(
        f, tensor(1.0), tensor(0.5, 0.0), rtol=1e-6, options={"jump_t": tensor(0.5, 2.0, -1.0)}
    )
    assert max(asked) < 0.5
    torch.testing.assert_close(y[-1], torch.exp(tensor(-0.5)), rtol=1e-6, atol=0)


def test_times_between_several_jumps():
    """In both directions, with the gradients of the output times."""

    def f(t, y):
        return y * (1.0 if t < 0.3 else -2.0 if t < 0.6 else 3.0)

    t, jumps = tensor(0.0, 0.2, 0.5, 1.0, requires_grad=True), tensor(0.6, 0.3)
    for exponents, at in (
        (tensor(0.0, 0.2, -0.1, 0.9), t),
        (tensor(0.0, -1.0, -0.7, -0.9), t.flip(0)),
    ):
        y = odeint(f, tensor(1.0), at, rtol=1e-9, atol=1e-12, options={"jump_t": jumps}).squeeze(1)
        torch.testing.assert_close(y, torch.exp(exponents), rtol=1e-8, atol=0)
        rates = tensor(1.0, 1.0, -2.0, 3.0) if at is t else tensor(3.0, -2.0, 1.0, 1.0)
        for i in range(1, 4):
            (found,) = torch.autograd.grad(y[i], at, retain_graph=True)
            expected = torch.zeros(4).double()
            expected[0], expected[i] = -rates[0] * y[i], rates[i] * y[i]
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", ["trapezoid", "trbdf2"])
def test_no_slope_goes_from_one_implicit_step_to_the_next(method, monkeypatch):
    """What a step leaves holds the rounding of y over the step, which adds up in single
    precision."""
    advance, left = GridIntegrator.advance, []

    def watched(self, *step):
        found = advance(self, *step)
        left.append(self.state.first)
        return found

    monkeypatch.setattr(GridIntegrator, "advance", watched)
    odeint(
        decay, torch.ones(1), torch.tensor([0.0, 1.0]), method=method, options={"step_size": 0.25}
    )
    assert left == [None] * 4
