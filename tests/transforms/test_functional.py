"""solve under torch.func: forward and reverse mode, vmap, and their compositions, against each
other and torch.autograd."""

import pytest
import torch

from pynode import DiscreteAdjoint, Event, solve
from tests.support.cases import Forced, leaf, tensor
from tests.support.gradients import agree

METHODS = [
    "Tsit5",
    "Rodas5P",
    "KenCarp4",
    "RadauIIA5",
    "FBDF",
    "QNDF",
    "AdamsPECE",
    "RKC",
    "AutoTsit5(Rodas5P())",
]
every_method = pytest.mark.parametrize("method", METHODS)
T = [0.0, 0.4, 1.0]
START = tensor(1.0, -0.5)


class Model(torch.nn.Module):
    """A module that solves inside of itself, as torch.func.functional_call wants it."""

    def __init__(self, method, **options):
        super().__init__()
        self.field, self.method, self.options = (
            Forced(2),
            method,
            {"rtol": 1e-3, "atol": 1e-4, **options},
        )

    def forward(self, y0, t=T):
        return solve(self.field, y0, t, method=self.method, **self.options).y

    def values(self):
        return {name: p.detach() for name, p in self.named_parameters()}

    def call(self, values, y0, t=T):
        return torch.func.functional_call(self, values, (y0, t))


@every_method
def test_forward_mode_is_reverse_mode(method):
    """<u, J v> by jvp and by vjp, in y0 and in the parameters together."""
    model = Model(method)
    inputs = model.values(), START
    generator = torch.Generator().manual_seed(1)
    moved = torch.utils._pytree.tree_map(
        lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype), inputs
    )
    y, tangent = torch.func.jvp(model.call, inputs, moved)
    again, pull = torch.func.vjp(model.call, *inputs)
    assert torch.equal(y, again) and torch.equal(y, model(START))
    weights = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    values, start = pull(weights)
    product = sum((values[k] * moved[0][k]).sum() for k in values) + (start * moved[1]).sum()
    torch.testing.assert_close((weights * tangent).sum(), product, rtol=1e-9, atol=1e-11)


@every_method
def test_jacobians(method):
    model = Model(method)
    wanted = torch.autograd.functional.jacobian(model, START)
    agree(torch.func.jacrev(model)(START), wanted)
    agree(torch.func.jacfwd(model)(START), wanted)
    values = model.values()
    agree(
        torch.func.jacfwd(model.call)(values, START), torch.func.jacrev(model.call)(values, START)
    )


@pytest.mark.parametrize("method", ["Tsit5", "FBDF", "Rodas5P"])
def test_hessian(method):
    """By three compositions, against torch.autograd; products by forward over reverse."""
    model = Model(method)

    def loss(y0):
        return (model(y0) ** 3).sum()

    wanted = torch.autograd.functional.hessian(loss, START)
    agree(torch.func.hessian(loss)(START), wanted)
    agree(torch.func.jacrev(torch.func.jacfwd(loss))(START), wanted)
    agree(torch.func.jacrev(torch.func.jacrev(loss))(START), wanted)
    v = tensor(0.3, -0.7)
    agree(torch.func.jvp(torch.func.grad(loss), (START,), (v,))[1], wanted @ v)


@every_method
def test_vmap_over_starts(method):
    """Every row is the solve of that row alone, in every digit; so are the gradients of each
    sample."""
    model, starts = Model(method), torch.stack((START, 2 * START, START + 1))
    rows = torch.stack([model(y0).detach() for y0 in starts])
    assert torch.equal(torch.func.vmap(model)(starts).detach(), rows)
    assert torch.equal(
        torch.func.vmap(model, in_dims=1, out_dims=1)(starts.T).detach(), rows.movedim(0, 1)
    )
    values = model.values()
    each = torch.func.vmap(
        torch.func.grad(lambda p, y0: (model.call(p, y0) ** 2).sum()), in_dims=(None, 0)
    )(values, starts)
    for i, y0 in enumerate(starts):
        alone = torch.func.grad(lambda p, y0=y0: (model.call(p, y0) ** 2).sum())(values)
        agree({k: g[i] for k, g in each.items()}, alone, 1e-13)


def test_vmap_over_times_and_parameters():
    model = Model("tsit5")
    times = torch.stack((tensor(0.0, 0.4, 1.0), tensor(0.1, 0.5, 2.0)))
    found = torch.func.vmap(lambda t: model(START, t))(times)
    assert torch.equal(found.detach(), torch.stack([model(START, t).detach() for t in times]))
    stacked = {k: torch.stack((v, 0.5 * v)) for k, v in model.values().items()}
    found = torch.func.vmap(model.call, in_dims=(0, None))(stacked, START)
    rows = [model.call({k: v[i] for k, v in stacked.items()}, START) for i in range(2)]
    assert torch.equal(found, torch.stack(rows))


def test_backward_through_vmap():
    """vmap alone, and then loss.backward() as ever."""
    model, starts = Model("fbdf"), torch.stack((START, 2 * START))
    torch.func.vmap(model)(starts).square().sum().backward()
    found = {k: p.grad.clone() for k, p in model.named_parameters()}
    model.zero_grad()
    sum(model(y0).square().sum() for y0 in starts).backward()
    agree(found, {k: p.grad for k, p in model.named_parameters()})


def test_times_in_reverse_mode():
    t = tensor(0.0, 0.4, 1.0)
    model = Model("tsit5", rtol=1e-9, atol=1e-10)
    found = torch.func.jacrev(lambda t: model(START, t))(t)
    agree(found, torch.autograd.functional.jacobian(lambda t: model(START, t), t))
    with pytest.raises(ValueError, match="no derivatives in forward mode"):
        torch.func.jacfwd(lambda t: model(START, t))(t)


def test_tensors_in_args_and_structures():
    rate = tensor(0.7)[0]

    def run(y0, rate):
        def f(t, y, rate, power):
            return {"a": -rate * y["a"] ** power, "b": torch.sin(t) * y["a"].sum() - y["b"]}

        return solve(
            f,
            y0,
            T,
            method="kencarp4",
            args=(rate, 2),
            rtol=1e-5,
            adjoint=DiscreteAdjoint(checkpoints=2),
        ).y["b"]

    y0 = {"a": tensor(1.0, 0.4), "b": tensor(-0.5)[0]}
    forward, reverse = (
        j(run, argnums=(0, 1))(y0, rate) for j in (torch.func.jacfwd, torch.func.jacrev)
    )
    agree(forward[1], reverse[1])
    agree(forward[0], reverse[0])


def test_frozen_parameters_have_no_part():
    model = Model("rodas5p")
    values = model.values()
    free = {"field.b": values.pop("field.b")}
    found = torch.func.grad(lambda p: model.call({**values, **p}, START).sum())(free)
    wanted = torch.func.grad(lambda p: model.call(p, START).sum())({**values, **free})
    assert list(found) == ["field.b"]
    agree(found, {"field.b": wanted["field.b"]})


def test_functional_call_without_a_transform():
    """Parameters that are not leaves, as those of module replicas."""
    model = Model("fbdf")
    values = {k: leaf(p) for k, p in model.named_parameters()}
    loss = model.call({k: 2 * v for k, v in values.items()}, START).sum()
    found = dict(zip(values, torch.autograd.grad(loss, list(values.values())), strict=True))
    wanted = torch.func.grad(lambda p: model.call({k: 2 * v for k, v in p.items()}, START).sum())(
        model.values()
    )
    agree(found, wanted)
    assert all(p.grad is None for p in model.parameters())


def test_solutions_say_how_they_ended():
    """Status and counts of all rows; a row that fails is NaN from where it failed."""
    kept = []

    def run(y0):
        kept.append(solve(lambda t, y: y * y, y0, [0.0, 0.5, 2.0], method="tsit5", throw=False))
        return kept[-1].y

    y = torch.func.vmap(run)(tensor(0.1, 1.0).unsqueeze(1))
    assert (
        not kept[0].success
        and torch.isfinite(y[0]).all()
        and torch.isfinite(y[1, :2]).all()
        and y[1, 2].isnan().all()
    )
    assert kept[0].stats.accepted > 10


def test_gradients_reach_the_params_named_alone():
    def loss(rate, push, **options):
        y = solve(
            lambda t, y, rate, push: push - rate * y,
            tensor(1.0),
            T,
            method="tsit5",
            args=(rate, push),
            **options,
        ).y
        return y.sum()

    values = tensor(0.5)[0], tensor(0.3)[0]
    both = torch.func.grad(loss, argnums=(0, 1))(*values)
    one = torch.func.grad(lambda rate, push: loss(rate, push, params=[rate]), argnums=(0, 1))(
        *values
    )
    assert both[1] != 0 and torch.equal(one[0], both[0]) and one[1] == 0


def test_what_cannot_be_transformed_is_told():
    rate = tensor(0.5)[0]

    def run(y0, rate=rate, **options):
        return solve(lambda t, y: -rate * y, y0, T, method="tsit5", **options).y

    y0, free = tensor(1.0), leaf(rate)
    for options, named in (
        ({"dense": True}, "dense"),
        ({"batched": True}, "batched"),
        ({"events": Event(lambda t, y: y[0])}, "events"),
        ({"jumps": [0.5]}, "jumps"),
        ({"jumps": tensor(0.5)}, "jumps"),
    ):
        with pytest.raises(ValueError, match=f"{named} is not for a solve inside torch.func"):
            torch.func.vmap(lambda y0, o=options: run(y0, **o))(y0.unsqueeze(0))
    with pytest.raises(ValueError, match="through args"):
        torch.func.grad(lambda rate: run(y0, rate).sum())(rate)
    with pytest.raises(ValueError, match="through args"):
        torch.func.vmap(lambda y0: run(y0, free))(y0.unsqueeze(0))
    with pytest.raises(NotImplementedError, match="forward mode twice"):
        torch.func.jacfwd(torch.func.jacfwd(run))(y0)


@pytest.mark.parametrize("last", [torch.func.jacrev, torch.func.jacfwd])
def test_third_derivatives_are_refused_with_a_way_out(last):
    def once(f):
        return lambda y0: torch.func.grad(lambda y0: f(y0).sum())(y0)

    def run(y0):
        return solve(lambda t, y: -(y**2), y0, T, method="tsit5").y

    with pytest.raises(NotImplementedError, match=r"at most twice.*adjoint='direct'"):
        last(once(once(run)))(tensor(1.0))
