"""Automatic switching, and the choice of method="auto"."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from pynode import problems, solve
from pynode.methods import registry
from pynode.methods.switching import AutoSwitch
from tests.support.cases import Forced, prothero, smooth, smooth_exact, tensor

STIFF = ["Rodas5P", "KenCarp4", "RadauIIA5"]


class Waking(nn.Module):
    """Three states relaxing to a moving target with a rate that rises from 1 to thousands and falls
    again."""

    def __init__(self, height=4000.0):
        super().__init__()
        self.height, self.shift = (
            nn.Parameter(tensor(height).squeeze()),
            nn.Parameter(tensor(0.1, 0.2, 0.3)),
        )

    def forward(self, t, y):
        rate = 1 + self.height * torch.exp(-((t - 2.0) ** 2) * 4)
        return -rate * (y - torch.cos(t + self.shift)) * (1 + 0.1 * y**2)


@pytest.mark.parametrize("stiff", STIFF)
def test_switches_there_and_back(stiff):
    f, y0 = Waking(), tensor(1.0, 0.9, 0.8)
    solution = solve(
        f, y0, [0.0, 6.0], method=f"AutoTsit5({stiff}())", rtol=1e-5, atol=1e-7, dense=True
    )
    steps = solution._trajectory.steps
    names = [step.method.name for step in steps]
    assert names[0] == names[-1] == "Tsit5" and stiff in names
    assert solution.stats.switches == sum(a != b for a, b in pairwise(names)) == 2
    rates = [1 + 4000 * torch.exp(tensor(-4 * (step.t - 2) ** 2)).item() for step in steps]
    assert min(r for r, name in zip(rates, names) if name == stiff) < 400
    assert max(r for r, name in zip(rates, names) if name == stiff) > 3000


@pytest.mark.parametrize("method", ["AutoTsit5(Rodas5P())", "AutoVern7(Rodas5P())"])
def test_where_nothing_is_stiff_it_is_the_explicit_method(method):
    explicit = method[4:].split("(")[0]
    found = solve(smooth, smooth_exact(0.0), [0.0, 5.0], method=method)
    expected = solve(smooth, smooth_exact(0.0), [0.0, 5.0], method=explicit)
    assert torch.equal(found.y, expected.y)
    assert found.stats == expected.stats and found.stats.switches == 0


def test_on_a_stiff_problem_it_costs_little_more_than_the_stiff_method():
    f, y0 = prothero(-1e4), tensor(1.0)
    stats = solve(f, y0, [0.0, 20.0], method="AutoTsit5(Rodas5P())").stats
    alone = solve(f, y0, [0.0, 20.0], method="Rodas5P").stats
    assert stats.switches == 1
    assert stats.accepted <= alone.accepted + 60


@pytest.mark.parametrize("stiff", STIFF)
@pytest.mark.parametrize(("start", "end"), [(0.0, 4.5), (4.5, 0.0)], ids=["forwards", "backwards"])
def test_gradient_across_switches_is_direct(stiff, start, end):
    f = Waking(400.0)
    field = f if end > start else lambda t, y: -f(4.5 - t, y)
    y0 = tensor(1.0, 0.9, 0.8).requires_grad_()
    times = tensor(
        *(start + (end - start) * x for x in (0.0, 0.11, 0.43, 0.431, 0.77, 1.0))
    ).requires_grad_()
    weights, found = torch.randn(6, 3, dtype=torch.float64), []
    for adjoint in ("discrete", "direct"):
        solution = solve(
            field, y0, times, method=f"autotsit5({stiff})", adjoint=adjoint, rtol=1e-4, atol=1e-6
        )
        assert solution.stats.switches >= 1
        found.append(
            torch.autograd.grad((weights * solution.y).sum(), [y0, times, f.height, f.shift])
        )
    for a, b in zip(*found):
        assert b.abs().max() > 0 and (a - b).abs().max() <= 1e-12 * b.abs().max()


def test_gradient_of_many_states():
    """The explicit stretches go back by vector-Jacobian products."""
    f, y0 = Forced(40), torch.linspace(-1, 1, 40, dtype=torch.float64).requires_grad_()
    found = []
    for adjoint in ("discrete", "direct"):
        y = solve(
            f, y0, [0.0, 0.5, 1.0], method="AutoTsit5(Rodas5P())", adjoint=adjoint, rtol=1e-4
        ).y
        found.append(torch.autograd.grad(y.square().sum(), [y0, *f.parameters()]))
    for a, b in zip(*found):
        assert (a - b).abs().max() <= 1e-12 * b.abs().max()


@pytest.mark.parametrize(
    "name", ["AutoTsit5(Rodas5P())", "autotsit5", "autotsit5(rodas5p)", "AutoTsit5( Rodas5P() )"]
)
def test_spellings(name):
    assert registry.get(name).name == "AutoTsit5(Rodas5P())"


def test_any_fitting_pair():
    assert isinstance(registry.get("AutoDP5(Kvaerno3())"), AutoSwitch)
    with pytest.raises(ValueError, match="BS3 cannot detect stiffness"):
        registry.get("AutoBS3(Rodas5P())")
    with pytest.raises(ValueError, match="QNDF cannot be switched to"):
        registry.get("AutoTsit5(QNDF())")
    with pytest.raises(ValueError, match="unknown method"):
        registry.get("autotsit6")


def test_boundaries_are_the_published_ones():
    """alg_stability_size of OrdinaryDiffEq.jl: 3.5068 and 4.6400."""
    assert registry.get("autotsit5").boundary == pytest.approx(3.5068, abs=0.02)
    assert registry.get("autovern7").boundary == pytest.approx(4.6400, abs=0.02)


def test_tight_tolerances_hide_stiffness_from_the_steps():
    """Robertson with milder constants: Vern7 stays at h rho = 3 of 4.6, and would need 80,000
    steps."""

    def f(t, y):
        a, b, c = y.unbind(-1)
        slow, middle, fast = 0.0070821 * a, 2.08e5 * b * c, 1.0735e6 * b * b
        return torch.stack((middle - slow, slow - middle - fast, fast), -1)

    options = {"rtol": 1.6e-10, "atol": 1.6e-16}
    found = solve(
        f, tensor(1.0, 0.0, 0.0), [0.0, 300.0], method="auto", max_steps=20_000, **options
    )
    right = solve(f, tensor(1.0, 0.0, 0.0), [0.0, 300.0], method="radauiia9", **options)
    assert found.method == "AutoVern7(Rodas5P())" and found.stats.switches
    torch.testing.assert_close(found.y[-1], right.y[-1], rtol=1e-7, atol=0)


@pytest.mark.parametrize("method", ["AutoTsit5(Rodas5P())", "AutoVern7(Rodas5P())"])
def test_oscillations_are_not_taken_for_stiffness(method):
    """Hundreds of steps with h rho above 1: the Jacobian is looked at, and tells."""
    problem = problems.get("lotka_volterra")
    stats = solve(
        problem.field, problem.y0, [0.0, 400.0], method=method, rtol=1e-4, atol=1e-6
    ).stats
    assert stats.switches == 0 and stats.njac <= 4


class Beam(nn.Module):
    """Elastic beam of `parts` pieces, clamped below, a force at its end until t = pi: angles and
    their rates, (2 parts,).

    Hairer & Wanner II, sec. IV.1: all modes oscillate, up to a frequency of 4 parts^2.
    """

    def __init__(self, parts):
        super().__init__()
        self.parts = parts
        ends = torch.full((parts,), 2.0, dtype=torch.float64)
        ends[0], ends[-1] = 1, 3
        self.register_buffer("diagonal", torch.diag(ends))

    def forward(self, t, y):
        angle, rate = y.split(self.parts, -1)
        bend = angle.diff(dim=-1)
        sine, cosine = torch.sin(bend), torch.cos(bend)
        c = self.diagonal - torch.diag_embed(cosine, 1) - torch.diag_embed(cosine, -1)
        d = torch.diag_embed(sine, 1) - torch.diag_embed(sine, -1)
        below = torch.cat((-angle[..., :1], angle[..., :-1]), -1)
        above = torch.cat((angle[..., 1:], angle[..., -1:]), -1)
        force = torch.where(t < torch.pi, 1.5 * torch.sin(t) ** 2, 0.0)
        load = self.parts**4 * (below - 2 * angle + above)
        load = (load + self.parts**2 * force * (torch.cos(angle) + torch.sin(angle))).unsqueeze(-1)
        pull = torch.linalg.solve(c, d @ load + rate.square().unsqueeze(-1))
        return torch.cat((rate, (c @ load + d @ pull).squeeze(-1)), -1)


def test_strong_oscillations_keep_bdf_away():
    beam, rest = Beam(10), torch.zeros(20, dtype=torch.float64)
    found = solve(beam, rest, [0.0, 5.0], method="auto", rtol=1e-4, atol=1e-4)
    assert (
        found.method == "RadauIIA5"
        and "oscillations" in found.choice
        and found.stats.accepted < 500
    )
    right = solve(beam, rest, [0.0, 5.0], method="radauiia9", rtol=1e-7, atol=1e-7).y[-1]
    assert ((found.y[-1] - right).abs() / (1e-4 * (1 + right.abs()))).max() < 30
    tight = solve(
        beam, rest, [0.0, 5.0], method="auto", rtol=1e-9, atol=1e-9, max_steps=3, throw=False
    )
    assert tight.method == "RadauIIA9"


@pytest.mark.parametrize("damping", [0.0, 5e3])
def test_oscillations_of_many_states_are_seen_by_arnoldi_steps(damping):
    """Sixty oscillators in a row with frequencies up to 2,000, undamped or more than critically
    damped."""

    def f(t, y):
        x, v = y.split(60, -1)
        ends = torch.nn.functional.pad(x, (1, 1))
        return torch.cat((v, 1e6 * (ends[..., 2:] - 2 * x + ends[..., :-2]) - damping * v), -1)

    y0 = torch.cat((torch.linspace(0, 1, 60), torch.zeros(60))).double()
    found = solve(f, y0, [0.0, 10.0], method="auto", max_steps=3, throw=False)
    assert found.method == ("QNDF" if damping else "RadauIIA5")


def test_auto_says_what_and_why():
    smooth_one = solve(smooth, smooth_exact(0.0), [0.0, 5.0])
    assert (
        smooth_one.method == "AutoTsit5(Rodas5P())"
        and "not stiff at the start" in smooth_one.choice
    )
    assert (
        solve(smooth, smooth_exact(0.0), [0.0, 5.0], rtol=1e-10, atol=1e-12).method
        == "AutoVern7(Rodas5P())"
    )
    stiff = solve(prothero(-1e6), tensor(1.5), [0.0, 5.0])
    assert stiff.method == "QNDF" and "stiff" in stiff.choice and stiff.stats.switches == 0
    assert (
        solve(prothero(-1e6), tensor(1.5), [0.0, 5.0], rtol=1e-9, atol=1e-10).method == "RadauIIA9"
    )
    large = solve(Forced(60), torch.zeros(60, dtype=torch.float64), [0.0, 1.0])
    assert large.method == "AutoTsit5(KenCarp47())"
    assert solve(smooth, smooth_exact(0.0), [0.0, 1.0], method="tsit5").choice == ""


def test_auto_counts_its_switches():
    """Robertson hides its stiffness at the start, where two of the three species are absent."""
    problem = problems.get("robertson")
    with torch.no_grad():
        solution = solve(problem.field, problem.y0, [0.0, 1e3], rtol=1e-6, atol=problem.atol)
    assert solution.stats.switches == 1 and "switches made: 1" in solution.choice


def test_auto_is_differentiable():
    f, y0 = Forced(), tensor(1.0, -0.5, 0.3).requires_grad_()
    found = [
        torch.autograd.grad(
            solve(f, y0, [0.0, 1.0], adjoint=adjoint).y[-1].sum(), [y0, *f.parameters()]
        )
        for adjoint in ("discrete", "direct")
    ]
    for a, b in zip(*found):
        assert (a - b).abs().max() <= 1e-12 * b.abs().max()


def test_auto_meets_a_field_that_is_not_finite():
    solution = solve(lambda t, y: y / 0.0, tensor(1.0), [0.0, 1.0], throw=False)
    assert not solution.success


def test_the_boundary_is_found_once(monkeypatch):
    """Every solve by 'auto' makes its pair anew; the stability boundary belongs to the tableau and
    is kept."""

    def solved():
        return solve(lambda t, y: -y, torch.ones(1, dtype=torch.float64), [0.0, 1.0])

    solved()
    asked = []
    monkeypatch.setattr("pynode.methods.tableau.np.linalg.solve", lambda *x: asked.append(x))
    assert "AutoTsit5" in solved().method and not asked
    assert "stability_boundary" in vars(registry.get("tsit5").tableau)


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_a_damped_mode_is_recognised_in_either_direction_of_time(direction):
    """In single precision rounding of the fast mode holds the steps well inside Vern7's
    stability."""

    def f(t, y):
        s = direction * torch.as_tensor(t)
        return direction * (-5e5 * (y - torch.cos(s)) - torch.sin(s))

    y0 = torch.ones(2, dtype=torch.float32)
    found = solve(f, y0, [0.0, 5.0 * direction], method="autovern7", rtol=5e-5, max_nfe=20_000)
    assert found.stats.switches
    torch.testing.assert_close(found.y[-1], math.cos(5.0) * y0, rtol=0, atol=1e-3)


def test_modes_that_the_quotient_of_two_stages_does_not_see():
    """A fast mode that has decayed, beside an oscillation at a tight tolerance: stability holds the
    steps, and the difference of two stages lies nearly along the slow modes. Without the question
    4,300 steps of Tsit5."""
    basis = torch.linalg.qr(tensor(1.0, 2.0, 2.0, 0.5, -1.0, 3.0, 2.0, 0.1, 1.0).reshape(3, 3))[0]
    a = basis @ tensor(-0.1, 1.0, 0.0, -1.0, -0.1, 0.0, 0.0, 0.0, -1e3).reshape(3, 3) @ basis.T
    y0 = basis @ tensor(1.0, 0.5, 0.5)
    found = solve(lambda t, y: a @ y, y0, [0.0, 15.0], method="autotsit5", rtol=1e-9, atol=1e-12)
    assert found.stats.switches
    assert found.stats.accepted < 2000
    torch.testing.assert_close(found.y[-1], torch.linalg.matrix_exp(15 * a) @ y0, rtol=0, atol=1e-6)
