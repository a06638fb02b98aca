"""Gradients reach every tensor that f uses, wherever it lies and in however many ways it reaches
f."""

import functools
import math

import pytest
import torch
from torch import nn

from pynode import Event, check_gradients, odeint, odeint_adjoint, solve
from pynode.core.leaves import LostLeaves, leaves_of, reachable
from tests.support.cases import leaf, tensor
from tests.support.engines import ENGINES

METHODS = ["tsit5", "rodas5p", "kvaerno5", "fbdf", "radauiia5"]
ADJOINTS = ["discrete", "forward", "gauss", "gausskronrod", "quadrature", "interpolating"]
JULIA_ADJOINTS = ["auto", "gauss", "interpolating"]
ONE = tensor(1.0)


on_both = pytest.mark.parametrize("engine", ["single", "julia"], indirect=True)


def ended(f, engine=ENGINES["single"], **options):
    options = {"method": "tsit5", "rtol": 1e-9, "atol": 1e-11, **options}
    return engine.solve(f, ONE, (0.0, 1.0), **options).y[-1].sum()


# Tensors that f uses only later.


@pytest.mark.parametrize(
    ("engine", "method"),
    [*(("single", m) for m in METHODS), *(("julia", m) for m in ("tsit5", "rodas5p", "qndf"))],
    indirect=["engine"],
)
def test_used_only_later(engine, method):
    early, late = leaf(-1.0), leaf(-2.0)

    def f(t, y):
        return early * y if float(t) < 0.5 else late * y

    ended(f, engine, method=method, jumps=[0.5]).backward()
    wanted = 0.5 * math.exp(-1.5)
    assert early.grad == pytest.approx(wanted, rel=1e-6) and late.grad == pytest.approx(
        wanted, rel=1e-6
    )


@pytest.mark.parametrize(
    ("engine", "adjoint"),
    [*(("single", a) for a in ADJOINTS), *(("julia", a) for a in JULIA_ADJOINTS)],
    indirect=["engine"],
)
def test_used_only_later_by_every_adjoint(engine, adjoint):
    """Also where nothing else requires a gradient."""
    late = leaf(-2.0)

    def f(t, y):
        return late * y if float(t) >= 0.5 else -y

    engine.require_adjoint(adjoint)
    ended(f, engine, jumps=[0.5], adjoint=adjoint).backward()
    assert late.grad == pytest.approx(0.5 * math.exp(-1.5), rel=1e-5)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "kvaerno5", "qndf", "fbdf"])
def test_used_only_later_by_rows(method):
    late = leaf(-2.0)

    def f(t, y):
        return torch.where(t < 0.5, -y, late * y) if bool((t >= 0.5).any()) else -y

    y = solve(
        f,
        ONE.repeat(2, 1),
        (0.0, 1.0),
        method=method,
        jumps=[0.5],
        batched=True,
        rtol=1e-9,
        atol=1e-11,
    ).y
    y[-1, 0].sum().backward()
    assert late.grad == pytest.approx(0.5 * math.exp(-1.5), rel=1e-5)


# Tensors in all places.


class Plain:
    """An object that holds a tensor."""

    def __init__(self, rate):
        self.inner = {"rates": [rate]}

    def __call__(self, t, y):
        return self.inner["rates"][0] * y

    def slope(self, t, y):
        return self(t, y)


class Hidden(nn.Module):
    """A module with a registered parameter and a tensor that is not."""

    def __init__(self, rate):
        super().__init__()
        self.hidden, self.weight = [rate], nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, t, y):
        return self.hidden[0] * self.weight * y


class Buffered(nn.Module):
    """A module with a buffer that requires a gradient."""

    def __init__(self, rate):
        super().__init__()
        self.register_buffer("rate", rate)

    def forward(self, t, y):
        return self.rate * y


def with_default(rate):
    def f(t, y, k=rate):
        return k * y

    return f


PLACES = {
    "closure": lambda k: lambda t, y: k * y,
    "default": with_default,
    "object": Plain,
    "bound method": lambda k: Plain(k).slope,
    "partial": lambda k: functools.partial(lambda k, t, y: k * y, k),
    "list in a module": Hidden,
    "buffer": Buffered,
    "buffer of a module that is called": lambda k: (lambda m: lambda t, y: m(t, y))(Buffered(k)),
    "computed": lambda k: (lambda w: lambda t, y: w * y)(2 * k / 2),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("engine", "method"),
    [*(("single", method) for method in METHODS), ("julia", "tsit5")],
    indirect=["engine"],
)
def test_every_place(place, engine, method):
    rate = leaf(-1.0)
    ended(PLACES[place](rate), engine, method=method).backward()
    assert rate.grad == pytest.approx(math.exp(-1), rel=1e-6)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("method", ["tsit5", "fbdf", "rodas5p"])
def test_nested_arguments(method, batched):
    rate, shift = leaf(-1.0), leaf(0.5)
    args = ({"rate": [rate]}, (shift, "name"))
    y0 = ONE.unsqueeze(0) if batched else ONE

    def f(t, y, rates, shifts):
        return rates["rate"][0] * (y - shifts[0])

    y = (
        solve(f, y0, (0.0, 1.0), args=args, method=method, batched=batched, rtol=1e-9, atol=1e-11)
        .y[-1]
        .sum()
    )
    y.backward()
    assert rate.grad == pytest.approx(0.5 * math.exp(-1), rel=1e-6)
    assert shift.grad == pytest.approx(1 - math.exp(-1), rel=1e-6)


# One tensor that reaches f in two ways.


def two_ways(k):
    """{way: (f, args)} of dy/dt = -2 k y."""
    module = nn.Linear(1, 1, bias=False).double()
    module.weight = nn.Parameter(k.detach().reshape(1, 1))
    w = module.weight
    computed = 2 * k / 2
    return {
        "twice in args": (lambda t, y, p, q: -(p + q) * y, (k, k), k),
        "in args and in a list in args": (lambda t, y, p, q: -(p + q[0]) * y, (k, [k]), k),
        "in args and closed over": (lambda t, y, p: -(p + k) * y, (k,), k),
        "in args, but the closure alone is used": (lambda t, y, p: -2 * k * y, (k,), k),
        "in args and in a module": (lambda t, y, p: -module(y) - p[0] * y, (w,), w),
        "in args and computed from it": (lambda t, y, p, q: -(p + q) * y, (k, computed), k),
    }


@pytest.mark.parametrize("way", two_ways(torch.tensor(0.7)))
@pytest.mark.parametrize(
    ("engine", "adjoint"),
    [
        ("single", "discrete"),
        ("single", "forward"),
        ("single", "gauss"),
        ("single", "direct"),
        ("julia", "auto"),
    ],
    indirect=["engine"],
)
def test_two_ways(way, engine, adjoint):
    f, args, source = two_ways(leaf(0.7))[way]
    (found,) = torch.autograd.grad(ended(f, engine, args=args, adjoint=adjoint), source)
    assert float(found) == pytest.approx(-2 * math.exp(-1.4), rel=1e-6)


def test_two_ways_in_rows():
    k = leaf(0.7)
    f, args, _ = two_ways(k)["in args and closed over"]
    y = solve(
        f,
        ONE.repeat(2, 1),
        (0.0, 1.0),
        args=args,
        method="tsit5",
        rtol=1e-9,
        atol=1e-11,
        batched=True,
    ).y[-1]
    assert float(torch.autograd.grad(y.sum() / 2, k)[0]) == pytest.approx(
        -2 * math.exp(-1.4), rel=1e-6
    )


@on_both
def test_named_parameters_that_depend_on_one_another_are_refused(engine):
    k = leaf(0.7)
    w = 2 * k
    with pytest.raises(ValueError, match="counted twice"):
        ended(lambda t, y: -(w + k) * y, engine, params=[w, k])


def test_named_parameters_alone_get_gradients():
    a, b = leaf(-1.0), leaf(-1.0)
    ended(lambda t, y: (a + b) * y, params=[a]).backward()
    assert a.grad is not None and b.grad is None


# What cannot be found is refused, and what f makes for itself does not count.


@on_both
def test_a_tensor_out_of_reach_is_refused(engine):
    """It lies where no search looks, and f uses it only later."""
    late, held = leaf(-2.0), {}
    # An object of a C type: its insides cannot be looked at.
    held["next"] = functools.lru_cache(lambda: late)

    def f(t, y):
        return getattr(held["next"], "__wrapped__")() * y if float(t) >= 0.5 else -y  # noqa: B009

    try:
        ended(f, engine, jumps=[0.5]).backward()
    except LostLeaves as error:
        assert "params=[...]" in str(error)
    else:
        assert late.grad == pytest.approx(0.5 * math.exp(-1.5), rel=1e-5)


class Energy(nn.Module):
    """-dV/dy by differentiation inside f, at a leaf of f's own."""

    def __init__(self):
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, t, y):
        with torch.enable_grad():
            x = y if y.requires_grad else y.detach().requires_grad_()
            (force,) = torch.autograd.grad((self.stiffness * x * x / 2).sum(), x, create_graph=True)
        return -force


@pytest.mark.parametrize("method", METHODS)
def test_leaves_that_f_makes_do_not_count(method):
    f = Energy()
    ended(f, method=method).backward()
    assert f.stiffness.grad == pytest.approx(-math.exp(-2), rel=1e-5)


def test_search():
    a, b = leaf(1.0), leaf(2.0)
    assert {id(x) for x in reachable(lambda: (a, Plain(b)))} == {id(a), id(b)}
    assert {id(x) for x in reachable(Plain(b), [a * 2])} == {id(a), id(b)}
    assert [id(x) for x in leaves_of(a * 2)] == [id(a)]


# Who looks for wrong gradients must see them.


def test_check_gradients_sees_what_the_adjoint_lost(monkeypatch):
    """It compares with the graph of the whole loop, and not with the tensors that the adjoint has
    found."""
    from pynode.core import leaves

    early, late = leaf(-1.0), leaf(-2.0)

    def f(t, y):
        return early * y + late * y

    options = {"method": "tsit5", "rtol": 1e-8, "atol": 1e-10}
    assert check_gradients(f, ONE, [0.0, 1.0], **options).ok
    found = leaves.find_leaves

    def losing(*arguments):
        whole = found(*arguments)
        return whole._replace(
            parameters=whole.parameters[:1], grad_targets=whole.grad_targets[:1], named=True
        )

    monkeypatch.setattr("pynode.core.vector_field.find_leaves", losing)
    assert not check_gradients(f, ONE, [0.0, 1.0], **options).ok


def test_events_and_resets_reach_their_tensors():
    level, kick = leaf(0.5), leaf(1.0)
    event = Event(lambda t, y: y[0] - level, reset=lambda t, y: y + kick, max_events=1)
    solution = solve(lambda t, y: -y, ONE, (0.0, 1.0), method="tsit5", events=event, throw=False)
    solution.y[-1].sum().backward()
    assert level.grad is not None and kick.grad is not None


# What f makes at its first call, and keeps.


class CompileCache(nn.Module):
    def __init__(self):
        super().__init__()
        self.rate, self.made = nn.Parameter(torch.tensor(0.3, dtype=torch.float64)), None

    def forward(self, t, y):
        if self.made is None:
            self.made = torch.exp(self.rate)
        return -self.made * y


@pytest.mark.parametrize("adjoint", ["discrete", "direct"])
@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_made_at_the_first_call(method, moving, adjoint):
    f, times = CompileCache(), torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=moving)
    solve(f, ONE, times, method=method, adjoint=adjoint, rtol=1e-9, atol=1e-11).y[
        -1
    ].sum().backward()
    rate = math.exp(0.3)
    assert float(f.rate.grad) == pytest.approx(-rate * math.exp(-rate), rel=1e-6)


@pytest.mark.parametrize("method", ["dopri5", "gl6"])
@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("interface", [odeint, odeint_adjoint])
def test_made_at_the_first_call_of_odeint(interface, moving, method):
    f, times = CompileCache(), torch.linspace(0, 1, 5, dtype=torch.float64).requires_grad_(moving)
    interface(f, ONE, times, method=method, rtol=1e-9, atol=1e-11)[-1].sum().backward()
    rate = math.exp(0.3)
    assert float(f.rate.grad) == pytest.approx(-rate * math.exp(-rate), rel=1e-5)
