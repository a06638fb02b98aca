"""Whether f takes many points in one call is decided beforehand, by values and derivatives; errors
of f reach the caller."""

import pytest
import torch

from pynode import Event, PresetTimes, odeint, solve
from pynode.backends.torch.inference import serves_inference
from pynode.core.problem import ODEProblem
from pynode.core.vector_field import VectorField
from tests.support.cases import tensor
from tests.support.odd_fields import KINDS, Y0, Field

METHODS = ["tsit5", "rodas5p", "kvaerno5", "fbdf", "radauiia5"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_gradients_through_everything(kind, method):
    """Hooks inside f run as in the loop; checkpoints and functions without a rule for vmap are no
    obstacle."""
    f = Field(kind)
    options = {"method": method, "rtol": 1e-8, "atol": 1e-10}
    (found,) = torch.autograd.grad(solve(f, Y0, (0.0, 1.0), **options).y[-1].sum(), f.linear.weight)
    reference = {**options, "method": "tsit5", "adjoint": "direct"}
    (wanted,) = torch.autograd.grad(
        solve(f, Y0, (0.0, 1.0), **reference).y[-1].sum(), f.linear.weight
    )
    assert torch.allclose(found, wanted, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_functions_without_a_rule_cost_an_evaluation_a_point(method):
    """And not one for each point and component."""
    f = Field("custom")
    solution = solve(f, Y0, (0.0, 1.0), method=method)
    f.calls = 0
    solution.y[-1].sum().backward()
    stages = {"tsit5": 6, "rodas5p": 8, "kvaerno5": 7, "fbdf": 1, "radauiia5": 3}[method]
    assert f.calls <= 3 * (stages + 1) * solution.stats.accepted + 20


# Errors of f.


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    "error", [RuntimeError, torch.OutOfMemoryError, NotImplementedError, ValueError]
)
@pytest.mark.parametrize("method", ["tsit5", "qndf"])
def test_errors_of_f_are_raised_once(method, error, batched):
    calls = [0]

    def f(t, y):
        calls[0] += 1
        if calls[0] == 23:
            raise error("my words")
        return -y

    with pytest.raises(error, match="my words"):
        solve(f, torch.ones(1, 1).double(), (0.0, 1.0), method=method, batched=batched)
    assert calls[0] == 23


def test_errors_on_the_way_back_are_raised():
    f = Field("plain")
    loss = solve(f, Y0, (0.0, 1.0), method="fbdf").y[-1].sum()
    torch.autograd.grad(loss, f.linear.weight, retain_graph=True)
    f.linear.forward = lambda y: (_ for _ in ()).throw(RuntimeError("my words"))
    with pytest.raises(RuntimeError, match="my words"):
        loss.backward()


@pytest.mark.parametrize("stated", ["vectors", "numbers", "memory"])
def test_a_given_jacobian_serves_all_steps_in_one_call(stated):
    """On the way back, where it allows vmap: 'numbers' and memory that it fills again do not, and
    serve one by one."""
    calls, memory = [], torch.zeros(2, 2, dtype=torch.float64)

    def f(t, y):
        return torch.stack((-(y[..., 0] ** 2), y[..., 0] - 50 * y[..., 1] * torch.cos(t)), -1)

    def jac(t, y):
        calls.append(1)
        zero = torch.zeros_like(y[0])
        rows = ((-2 * y[0], zero), (zero + 1, -50 * torch.cos(t)))
        if stated == "vectors":
            return torch.stack([torch.stack(row) for row in rows])
        if stated == "numbers":
            return torch.tensor([[float(x) for x in row] for row in rows], dtype=torch.float64)
        for i in (0, 1):
            for j in (0, 1):
                memory[i, j] = rows[i][j]
        return memory

    y0 = tensor(1.0, 0.5, requires_grad=True)
    solution = solve(f, y0, (0.0, 1.0), method="kvaerno5", jac=jac)
    calls.clear()
    (found,) = torch.autograd.grad(solution.y[-1].sum(), y0)
    assert (len(calls) <= 3) == (stated == "vectors") and solution.stats.accepted > 10
    plain = solve(f, y0, (0.0, 1.0), method="kvaerno5", adjoint="direct").y[-1].sum()
    torch.testing.assert_close(found, torch.autograd.grad(plain, y0)[0], rtol=1e-6, atol=1e-9)


# Inference mode, in which some fields are not themselves.


def differentiating(t, y):
    with torch.enable_grad():
        x = y.detach().requires_grad_()
        return -torch.autograd.grad((x**2).sum() / 2, x)[0]


def silently_zero(t, y):
    return -torch.autograd.functional.jvp(lambda x: x**2 / 2, y, torch.ones_like(y))[1]


@pytest.mark.parametrize("f", [differentiating, silently_zero])
@pytest.mark.parametrize("method", ["tsit5", "fbdf"])
def test_fields_that_differentiate_inside(f, method):
    """torch.autograd.functional returns zeros in inference mode, without a word."""
    with torch.no_grad():
        y = solve(
            f, tensor(1.0), (0.0, 1.0), method=method, jac=lambda t, y: -torch.eye(1).double()
        ).y[-1]
    assert float(y) == pytest.approx(0.36788, rel=1e-4)


def test_inference_mode_is_decided_beforehand():
    for f, serves in ((lambda t, y: -y, True), (differentiating, False), (silently_zero, False)):
        problem = ODEProblem(f, tensor(1.0), (0.0, 1.0))
        field = VectorField(problem, problem.layout(), 0.0)
        assert serves_inference(field, 0.0, tensor(1.0)) is serves


# Memory that f uses again.


class Buffered:
    """Lotka and Volterra, in one buffer."""

    def __init__(self):
        self.out = torch.zeros(2, dtype=torch.float64)

    def __call__(self, t, y):
        self.out[0] = 1.5 * y[..., 0] - y[..., 0] * y[..., 1]
        self.out[1] = -3 * y[..., 1] + y[..., 0] * y[..., 1]
        return self.out

    def view(self, t, y):
        return self(t, y).view(1, 2)[0]


RIGHT = torch.tensor([6.09849468, 0.6281379], dtype=torch.float64)


@pytest.mark.parametrize(
    ("engine", "method", "view"),
    [
        *(
            ("single", method, view)
            for method in ("bs3", "dp8", "adamspece", "rkc", *METHODS, "qndf")
            for view in (False, True)
        ),
        *(("julia", method, False) for method in ("tsit5", "rodas5p", "qndf")),
    ],
    indirect=["engine"],
)
def test_one_buffer_for_all_results(engine, method, view):
    f = Buffered()

    def jac(t, y):
        return torch.stack((torch.stack((1.5 - y[1], -y[0])), torch.stack((y[1], y[0] - 3))))

    options = {"jac": jac} if method in ("rodas5p", "kvaerno5", "qndf", "fbdf", "radauiia5") else {}
    options |= {"method": method, "rtol": 1e-7, "atol": 1e-9}
    with torch.no_grad():
        found = engine.solve(f.view if view else f, torch.ones(2).double(), (0.0, 5.0), **options)
    assert torch.allclose(found.y[-1], RIGHT, rtol=1e-3)


def test_one_buffer_in_odeint():
    y = odeint(
        Buffered(), torch.ones(2).double(), torch.tensor([0.0, 5.0]).double(), method="bosh3"
    )[-1]
    assert torch.allclose(y, RIGHT, rtol=1e-4)


@pytest.mark.parametrize("engine", ["single", "julia"], indirect=True)
def test_one_buffer_for_conditions_resets_and_jacobians(engine):
    level, state, matrix = (
        torch.zeros(1).double(),
        torch.zeros(1).double(),
        torch.zeros(1, 1).double(),
    )

    def condition(t, y):
        return level.copy_(y - 0.5)

    def reset(t, y):
        return state.copy_(y + 0.5)

    def jac(t, y):
        return matrix.fill_(-1)

    y0 = tensor(1.0).requires_grad_()
    events = [Event(condition, reset=reset), PresetTimes([0.2], reset)]
    for method in ("tsit5", "fbdf", "rodas5p"):
        solution = engine.solve(
            lambda t, y: -y,
            y0,
            (0.0, 2.0),
            method=method,
            jac=jac,
            events=events[:1],
            rtol=1e-9,
            atol=1e-11,
        )
        assert [float(event.t) for event in solution.events] == pytest.approx(
            [0.693147, 1.386294], abs=1e-5
        )
        assert float(solution.events[0].after) == pytest.approx(1.0, abs=1e-6)


# What has no derivative stays where it is.


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("method", ["tsit5", "dp8", "bs3"])
def test_nan_of_one_row_does_not_spread(method, batched):
    y0 = torch.tensor([[0.0], [1.0], [2.0]]).double().requires_grad_()
    y = solve(
        lambda t, y: -y.abs().sqrt() * y,
        y0,
        (0.0, 1.0),
        method=method,
        batched=batched,
        rtol=1e-8,
        atol=1e-10,
    ).y[-1]
    (found,) = torch.autograd.grad(y[1:].sum(), y0)
    wanted = (1 + y0.detach()[1:].sqrt() / 2) ** -3
    assert torch.allclose(found[1:], wanted, rtol=1e-5)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("method", ["tsit5", "radauiia3", "rodas5p"])
@pytest.mark.parametrize("adjoint", ["discrete", "direct"])
def test_conditions_that_differentiate_inside(method, batched, adjoint):
    """Their state is a tensor of their own: neither one of inference mode nor a view of the user's
    leaf."""
    if batched and (method == "radauiia3" or adjoint == "direct"):
        method, adjoint = "kvaerno3", "discrete"  # of these there are no batches

    def condition(t, y):
        with torch.enable_grad():
            x = y if y.requires_grad else y.detach().requires_grad_()
            return torch.autograd.grad((x**2).sum() / 2, x)[0].sum(-1, keepdim=True) - 0.5

    y0 = tensor(1.0, requires_grad=True)
    start = y0.unsqueeze(0) if batched else y0
    event = Event(condition, terminal=True)
    solution = solve(
        lambda t, y: -y,
        start,
        (0.0, 2.0),
        method=method,
        events=event,
        adjoint=adjoint,
        batched=batched,
    )
    records = solution.events[0] if batched else solution.events
    assert float(records[0].t) == pytest.approx(0.693147, abs=1e-2)
