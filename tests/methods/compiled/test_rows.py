"""Whole steps compiled for batches: every row as without, rows of other numbers, and gradients."""

import shutil

import pytest
import torch
from torch import nn

import pynode
from pynode import solve
from pynode.methods import Rodas5P, Rosenbrock23, Tsit5
from pynode.methods.compiled import batched_steps, compiled_functions
from pynode.methods.registry import get
from tests.support.compiledcase import TRACED


class Reaction(nn.Module):
    """Two species, stiff by row, with a drift in time."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, t, y, k, shift):
        a, b = y.unbind(-1)
        return torch.stack(
            (-self.weight * a + torch.tanh(b) + shift, k * (a - b) + torch.sin(t).squeeze(-1)), -1
        )


def batch(rows=6):
    y0 = torch.linspace(0.5, 1.5, 2 * rows, dtype=torch.float64).view(rows, 2)
    return (
        y0,
        torch.logspace(0, 3, rows, dtype=torch.float64),
        torch.tensor(0.1, dtype=torch.float64),
    )


def run(method, compiler, rows=6, field=None, **options):
    field = field or Reaction()
    y0, k, shift = batch(rows)
    inputs = [x.requires_grad_() for x in (y0, k, shift)]
    options = {"rtol": 1e-5, "atol": 1e-8, **options}
    solution = solve(
        field,
        y0,
        [0.0, 0.3, 1.0],
        args=(k, shift),
        method=get(method, compile=compiler),
        batched=True,
        **options,
    )
    return solution, torch.autograd.grad(solution.y.square().sum(), [*inputs, field.weight])


@pytest.mark.parametrize(
    "method, options",
    [
        ("Tsit5", {}),
        ("BS3", {"atol": [1e-8, 1e-9]}),
        ("Rosenbrock23", {}),
        ("Rodas5P", {"first_step": 1.0}),
        ("RK4", {"step_size": 1e-3}),
        ("SSPRK33", {"step_size": 1e-3}),
    ],
)
def test_the_same_rows_and_gradients(method, options):
    (plain, expected), (compiled, found) = (run(method, c, **options) for c in (False, TRACED))
    assert torch.allclose(compiled.y, plain.y, rtol=0, atol=1e-11)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)
    assert (
        compiled.stats.accepted == plain.stats.accepted
        and compiled.stats.rejected == plain.stats.rejected
    )
    assert compiled.stats.nfe == plain.stats.nfe


def test_rows_that_end_leave_the_others_smaller_functions(monkeypatch):
    """Functions for 16 and 4 rows, to which the others are filled up, serve batches of up to 16; a
    single row has its own."""
    monkeypatch.setattr(batched_steps, "SHRINK", 4)
    monkeypatch.setattr(batched_steps, "SMALLEST", 2)
    field = Reaction()

    def calls():
        return {function.rows: function.calls for function in compiled_functions(field)}

    for rows, sizes in ((13, [16, 4]), (16, [16, 4]), (3, [4]), (1, [1])):
        before = calls()
        y0, k, shift = batch(rows)
        k, ends = k * 1e2, torch.linspace(0.01, 1.0, rows, dtype=torch.float64)
        times = torch.stack((torch.zeros_like(ends), ends))
        plain, found = (
            solve(
                field,
                y0,
                times,
                args=(k, shift),
                method=Rosenbrock23(compile=c),
                rtol=1e-3,
                batched=True,
            ).y
            for c in (False, TRACED)
        )
        assert torch.allclose(found, plain, rtol=0, atol=1e-11)
        assert [size for size, count in calls().items() if count > before.get(size, 0)] == sizes
    assert list(calls()) == [16, 4, 1]


def test_events_and_structured_states():
    """Rows whose states an event changes, and a state in parts."""

    class Parts(nn.Module):
        def forward(self, t, state):
            return {"q": state["p"], "p": -torch.ones_like(state["q"])}

    start = {
        "q": torch.tensor([[1.0], [2.0]], dtype=torch.float64),
        "p": torch.zeros(2, 1, dtype=torch.float64),
    }
    floor = pynode.Event(
        lambda t, state: state["q"].squeeze(-1),
        direction=-1,
        reset=lambda t, state: {"q": 0 * state["q"], "p": -state["p"]},
    )
    plain, found = (
        solve(
            Parts(), start, [0.0, 1.0, 3.0], method=Tsit5(compile=c), events=[floor], batched=True
        )
        for c in (False, TRACED)
    )
    assert [len(rows) for rows in found.events] == [len(rows) for rows in plain.events] and any(
        found.events
    )
    for name in start:
        assert torch.allclose(found.y[name], plain.y[name], rtol=0, atol=1e-10)


def test_a_compiler_that_errs_in_one_row_is_found_out():
    """The last row alone is wrong, by a millionth of its size."""

    def wrong(graph, inputs):
        def err(*given):
            outputs = list(graph.forward(*given))
            outputs[0] = outputs[0].clone()
            outputs[0][-1] *= 1 + 1e-6
            return outputs

        return err

    with pytest.raises(ValueError, match=r"makes wrong steps on this field; they deviate by 1e-06"):
        run("tsit5", wrong)


@pytest.mark.skipif(
    shutil.which("c++") is None and shutil.which("g++") is None,
    reason="no C++ compiler, which inductor needs",
)
def test_by_inductor():
    """The backend that pays."""
    (plain, expected), (compiled, found) = (
        run("rosenbrock23", c, rtol=1e-3) for c in (False, True)
    )
    assert torch.allclose(compiled.y, plain.y, rtol=0, atol=1e-10)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: CUDA graphs cannot be recorded")
def test_cuda_graphs():
    field = Reaction().cuda()
    y0, k, shift = (x.cuda() for x in batch())
    plain, found = (
        solve(field, y0, [0.0, 1.0], args=(k, shift), method=Rodas5P(compile=c), batched=True).y
        for c in (False, True)
    )
    assert torch.allclose(found, plain, rtol=0, atol=1e-9)
