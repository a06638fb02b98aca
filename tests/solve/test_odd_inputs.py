"""Inputs and results of other kinds: served where they have a meaning, else refused with a
sentence."""

import numpy as np
import pytest
import torch
from torch import nn

from pynode import Event, PresetTimes, Sparse, solve
from pynode.methods import QNDF, AutoTsit5, Rodas5P
from pynode.nn import NeuralODE
from tests.support.cases import tensor

TWO = tensor(1.0, 2.0)


def decay(t, y):
    return -y


def patterns():
    sp = pytest.importorskip("scipy.sparse")
    eye = np.eye(2)
    return [
        eye,
        sp.identity(2),
        sp.csr_matrix(eye),
        torch.eye(2),
        torch.eye(2).to_sparse(),
        Sparse(sp.identity(2)),
    ]


def test_patterns_of_every_kind():
    """A matrix must not be compared with a word."""
    for pattern in patterns():
        y = solve(decay, TWO, [0.0, 1.0], method=QNDF(jacobian=pattern)).y[-1]
        torch.testing.assert_close(y, TWO * torch.exp(tensor(-1.0)), rtol=1e-4, atol=0)
        with pytest.raises(ValueError, match="batched=True takes small dense systems"):
            solve(decay, TWO[None], [0.0, 1.0], method=QNDF(jacobian=pattern), batched=True)
    with pytest.raises(ValueError, match=r"the sparsity pattern of 2 states must be \(2, 2\)"):
        solve(decay, TWO, [0.0, 1.0], method=QNDF(jacobian=np.eye(3)))


def test_mass_matrices_of_every_kind():
    matrix = torch.diag(tensor(1.0, 0.5))
    sp = pytest.importorskip("scipy.sparse")
    masses = [matrix, matrix.numpy(), sp.csr_matrix(matrix.numpy()), sp.dia_matrix(matrix.numpy())]
    masses += [matrix.to_sparse(), matrix.to_sparse_csr()]
    for mass in masses:
        y = solve(decay, TWO, [0.0, 1.0], method="rodas5p", mass=mass).y[-1]
        torch.testing.assert_close(y, TWO * torch.exp(tensor(-1.0, -2.0)), rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match=r"mass has shape \(3, 3\)"):
        solve(decay, TWO, [0.0, 1.0], mass=sp.identity(3))


@pytest.mark.parametrize("empty", [(), []])
def test_nothing_is_nothing_inside_transforms(empty):
    def last(y):
        return solve(decay, y, [0.0, 1.0], events=empty, jumps=empty, tstops=empty).y[-1].sum()

    torch.testing.assert_close(
        torch.func.grad(last)(TWO), torch.exp(tensor(-1.0, -1.0)), rtol=1e-5, atol=0
    )
    event = Event(lambda t, y: y[0] - 0.5)
    with pytest.raises(ValueError, match=r"events is not for a solve inside torch.func"):
        torch.func.grad(lambda y: solve(decay, y, [0.0, 1.0], events=[event]).y.sum())(TWO)


@pytest.mark.parametrize("events", [(), PresetTimes([0.5], lambda t, y: y + 1)])
@pytest.mark.parametrize("shape", [(0,), (2, 0)])
def test_no_times_are_asked_for(events, shape):
    solution = solve(decay, TWO, [0.0, 1.0], method="tsit5", dense=True, events=events)
    assert solution(torch.empty(shape)).shape == (*shape, 2)
    assert solution.derivative(torch.empty(shape)).shape == (*shape, 2)
    tree = solve(lambda t, y: {"a": -y["a"]}, {"a": TWO}, [0.0, 1.0], method="tsit5", dense=True)
    assert tree(torch.empty(0))["a"].shape == (0, 2)


def test_a_field_in_parallel():
    """DataParallel takes whatever the module inside takes: here the state alone."""
    field = nn.Sequential(nn.Linear(2, 2), nn.Tanh()).double()
    plain, parallel = NeuralODE(field), NeuralODE(nn.DataParallel(field))
    torch.testing.assert_close(parallel(TWO[None]), plain(TWO[None]))


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="times on another device than the state need a GPU"
)
@pytest.mark.parametrize("batched", [False, True])
def test_times_with_a_gradient_on_another_device(batched):
    t = tensor(0.0, 1.0, 2.0, requires_grad=True)
    y0 = TWO.cuda()
    y = solve(decay, y0[None] if batched else y0, t, method="tsit5", batched=batched).y
    y.sum().backward()
    torch.testing.assert_close(t.grad[1:], -3.0 * torch.exp(-t.detach()[1:]), rtol=1e-5, atol=0)


def test_results_of_another_dtype():
    with pytest.raises(TypeError, match=r"A state must be real.*view_as_real"):
        solve(lambda t, y: 1j * y, TWO, [0.0, 1.0])
    with pytest.raises(TypeError, match=r"A state must be real.*view_as_real"):
        solve(lambda t, y: 1j * y, TWO[None], [0.0, 1.0], method="tsit5", batched=True)
    with pytest.raises(TypeError, match=r"hold it as torch.view_as_real"):
        solve(decay, TWO + 0j, [0.0, 1.0])
    with pytest.raises(TypeError, match=r"a forcing.*\.to\(y\.dtype\)"):
        solve(lambda t, y: -y + torch.sin(tensor(2.0) * t), TWO.float(), torch.tensor([0.0, 1.0]))
    with pytest.raises(TypeError, match=r"torch.bool for a state"):
        solve(lambda t, y: y > 0, TWO[None], [0.0, 1.0], method="tsit5", batched=True)


def test_times_of_single_precision():
    """float32 times beside a float64 state and forcing: time is float64 all the same."""
    t = torch.tensor([0.0, 1.0])
    y = solve(lambda t, y: torch.cos(t) + 0 * y, TWO, t, method="tsit5", rtol=1e-9).y[-1]
    torch.testing.assert_close(y, TWO + torch.sin(tensor(1.0)), rtol=0, atol=1e-8)


def algebraic(t, y):
    """A decay, and a component that equals its square."""
    return torch.stack((-y[0], y[1] - y[0] ** 2))


def test_resets_of_a_differential_algebraic_system():
    """Without effect: the solve goes on. With one that breaks an equation: the message names the
    reset, not y0."""
    options = {"mass": tensor(1.0, 0.0), "method": "qndf", "rtol": 1e-3, "atol": 1e-8}
    idle = Event(lambda t, y: y[0] - 0.5, reset=lambda t, y: y)
    found = solve(algebraic, tensor(1.0, 1.0), [0.0, 2.0], events=idle, **options)
    torch.testing.assert_close(found.y[-1], torch.exp(tensor(-2.0, -4.0)), rtol=0.02, atol=0)
    for when in (0.0, 0.7):
        kick = PresetTimes([when], lambda t, y: y * tensor(2.0, 1.0), name="kick")
        with pytest.raises(
            ValueError,
            match=f"the state after the reset of 'kick' at t = {when:g} is not consistent",
        ):
            solve(algebraic, tensor(1.0, 1.0), [0.0, 2.0], events=kick, **options)
        moved = solve(
            algebraic, tensor(1.0, 1.0), [0.0, 2.0], events=kick, consistent="solve", **options
        ).y[-1]
        torch.testing.assert_close(
            moved, tensor(2.0, 4.0) * torch.exp(tensor(-2.0, -4.0)), rtol=0.02, atol=0
        )


def test_options_that_auto_cannot_promise():
    """'auto' may choose a method that has no fixed steps: the message does not blame that one."""
    for options in ({}, {"batched": True}, {"mass": torch.ones(2)}):
        y0 = TWO[None] if "batched" in options else TWO
        with pytest.raises(ValueError, match="step_size asks for fixed steps, and method='auto'"):
            solve(decay, y0, [0.0, 1.0], step_size=0.1, **options)
    method = AutoTsit5(Rodas5P(controller="PI"))
    assert solve(decay, TWO, [0.0, 1.0], method=method).success


SPARSE, META = (lambda x: x.to_sparse()), (lambda x: x.to("meta"))
KINDS = pytest.mark.parametrize(
    ("made", "said"), [(SPARSE, "is sparse"), (META, "meta device")], ids=["sparse", "meta"]
)


@KINDS
def test_results_without_values(made, said):
    """Sparse and meta tensors from f, a condition, a reset and jac, alone and in rows."""

    def changed(t, y):
        return made(-y)

    cases = [
        lambda: solve(changed, TWO, [0.0, 1.0]),
        lambda: solve(changed, TWO[None], [0.0, 1.0], batched=True),
    ]
    cases.append(lambda: solve(lambda t, y: {"a": made(-y["a"])}, {"a": TWO}, [0.0, 1.0]))
    for batched in (False, True):
        y0 = TWO[None] if batched else TWO
        options = {"method": "tsit5", "batched": batched}

        def condition(t, y):
            return y[..., 0] - 0.5

        odd = (
            Event(lambda t, y: made(condition(t, y))),
            Event(condition, reset=lambda t, y: made(y)),
            PresetTimes([0.5], lambda t, y: made(y)),
        )
        cases += [
            lambda e=e, y=y0, o=options: solve(decay, y, [0.0, 2.0], events=e, **o) for e in odd
        ]
    cases.append(
        lambda: solve(
            decay,
            TWO,
            [0.0, 1.0],
            method="qndf",
            jac=lambda t, y: made(-torch.eye(2, dtype=y.dtype)),
        )
    )
    for call in cases:
        with pytest.raises((TypeError, ValueError), match=said):
            call()


@pytest.mark.parametrize("batched", [False, True])
def test_a_condition_that_changes_its_size(batched):
    def condition(t, y):
        return (y - 2).repeat_interleave(1 + int(float(t.max()) > 1.5), -1)

    y0 = torch.ones(2, 1, dtype=torch.float64) if batched else tensor(1.0)
    with pytest.raises(ValueError, match=r"returned 2 values at t = .* and 1 before"):
        solve(
            lambda t, y: 1 + 0 * y,
            y0,
            [0.0, 3.0],
            method="tsit5",
            events=Event(condition),
            batched=batched,
        )
