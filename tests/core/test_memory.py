"""Exhausted memory reaches the caller, whatever pynode was trying."""

import ast

import pytest
import torch

from pynode import Banded, Event, Rodas5P, SolveError, check_gradients, solve
from tests.support import ROOT
from tests.support.cases import tensor

WIDE = {"Exception", "BaseException", "RuntimeError"}
# Handlers that keep every error to raise or show it elsewhere, and handlers around files and
# packages.
KEPT = {
    "backends/julia/field.py",  # raised again when Julia returns
    "backends/julia/runtime.py",  # a broken Julia
    "backends/julia/translated.py",  # remembered as the reason of a refusal
    "backends/native/hooks.py",  # raised again when compiled code returns
    "backends/native/rows.py",  # raised again
    "algebra/sparse.py",  # SuperLU on the CPU
    "cli/",
    "compare/gradients.py",  # shown in the table
    "backends/julia/setup/",
    "translate/",  # on the CPU, in recordings of one call
    "data/formats.py",  # reads a file, and shows the error
    "fit/tasks.py",  # raised again in the first thread
    "fit/together.py",  # raised again in the threads that asked
    "train/model.py",  # reads a file, and shows the error
}


def handlers():
    """(path, line, whether it lets exhausted memory pass) of each handler of wide errors."""
    for path in sorted((ROOT / "pynode").rglob("*.py")):
        name = path.relative_to(ROOT / "pynode").as_posix()
        if any(name.startswith(kept) for kept in KEPT):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                names = ast.walk(node.type) if node.type else [ast.Name("Exception")]
                if WIDE & {name.id for name in names if isinstance(name, ast.Name)}:
                    first = ast.unparse(node.body[0])
                    yield f"{name}:{node.lineno}", first.startswith("raise_if_exhausted(")


def test_every_wide_handler_lets_it_pass():
    found = dict(handlers())
    assert len(found) > 15
    wrong = [place for place, good in found.items() if not good]
    assert not wrong, f"{wrong}: begin with raise_if_exhausted (core/memory.py)"


class Memory:
    """A field that has no memory left from one call on."""

    def __init__(self, error, last):
        self.error = error
        self.last = last
        self.calls = 0

    def __call__(self, t, y):
        self.calls += 1
        if self.calls > self.last:
            raise self.error
        return -y * y


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


def exhausted(error, run):
    """Assert that run(field) raises the error wherever in it memory is exhausted."""
    field = Memory(error, 1 << 30)
    run(field)
    calls = field.calls
    assert calls > 10
    for last in sorted({*range(min(calls, 40)), calls // 2, calls - 1}):
        with pytest.raises(type(error)) as caught:
            run(Memory(error, last))
        assert caught.value is error, last


@pytest.mark.parametrize("error", ERRORS, ids=["device", "CPU", "Python"])
@pytest.mark.parametrize("batched", [False, True], ids=["single", "rows"])
@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "kvaerno5", "qndf"])
def test_solves(method, batched, error):
    def run(field):
        y0 = torch.ones(3, 2, dtype=torch.float64).requires_grad_()
        options = {"method": method, "batched": batched, "backend": "torch", "rtol": 1e-3}
        events = [Event(lambda t, y: y[..., 0] - 0.7, reset=lambda t, y: y + 1)]
        y = solve(field, y0, [0.0, 0.5], events=events, **options).y
        torch.autograd.grad(y.sum(), y0)

    exhausted(error, run)


@pytest.mark.parametrize("error", ERRORS[:1], ids=["device"])
@pytest.mark.parametrize("adjoint", ["GaussAdjoint", "ForwardSensitivity", "GaussKronrodAdjoint"])
def test_adjoints(adjoint, error):
    def run(field):
        y0 = tensor(1.0, 2.0).requires_grad_()
        options = {"method": "rodas5p", "adjoint": adjoint, "backend": "torch", "rtol": 1e-3}
        torch.autograd.grad(solve(field, y0, [0.0, 0.5], **options).y.sum(), y0)

    exhausted(error, run)


def test_a_structured_jacobian():
    def run(field):
        solve(field, torch.ones(40).double(), [0.0, 0.5], method=Rodas5P(jacobian=Banded(0, 0)))

    exhausted(ERRORS[0], run)


def test_a_report():
    """The failure itself stays; its examination shows that memory is exhausted."""

    def blows_up(last):
        calls = [0]

        def field(t, y):
            calls[0] += 1
            if calls[0] > last:
                raise ERRORS[0]
            return y * y

        return field, calls

    field, calls = blows_up(1 << 30)
    with pytest.raises(SolveError) as caught:
        solve(field, tensor(1.0), [0.0, 2.0], method="tsit5", backend="torch")
    solved = calls[0]
    assert caught.value.report().cause and calls[0] > solved + 1
    field, _ = blows_up(solved + 1)
    with pytest.raises(SolveError) as caught:
        solve(field, tensor(1.0), [0.0, 2.0], method="tsit5", backend="torch")
    with pytest.raises(torch.OutOfMemoryError):
        caught.value.report()


def test_a_check_of_gradients():
    def run(field):
        check_gradients(field, tensor(1.0, 2.0), [0.0, 0.5], method="tsit5", backend="torch")

    exhausted(ERRORS[0], run)
