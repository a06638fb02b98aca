"""Any thread may solve on a real Julia: the results are those of one thread, in every bit."""

import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pynode import JuliaBackend, solve
from pynode.backends.julia.runtime import start
from tests.support import ROOT
from tests.support.cases import Forced, leaf, smooth_exact, tensor
from tests.support.juliacase import next_solve_works

THREADS = 8
HOOKS = ["native", "python"]


def solved(f, start_y, hooks, method="Rodas5P"):
    """(start, solution) of a solve that keeps what a gradient needs."""
    y0 = leaf(start_y)
    backend = JuliaBackend(hooks=hooks)
    solution = solve(
        f, y0, [0.0, 0.5, 1.0], method=method, backend=backend, adjoint="NativeGauss", rtol=1e-7
    )
    assert solution.hooks == hooks
    return y0, solution


def gradients(f, y0, solution, component=0):
    """Of one component of the outputs."""
    loss = solution.y[:, component].sum()
    return torch.autograd.grad(loss, [y0, *f.parameters()], retain_graph=True)


def outcome(f, number, hooks, method):
    y0, solution = solved(f, tensor(1.0 + 0.1 * number, -0.5, 0.3), hooks, method)
    return [solution.y.detach(), *gradients(f, y0, solution)]


def equal(found, expected):
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def together(count, run):
    """run(number) in so many threads, which all begin at once; raises what one of them raised."""
    ready = threading.Barrier(count)

    def begun(number):
        ready.wait()
        return run(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begun, range(count)))


@pytest.mark.parametrize("method", ["Rodas5P", "FBDF"])
@pytest.mark.parametrize("hooks", HOOKS)
def test_threads_find_what_one_finds(hooks, method):
    """Solves and gradients of one module, while one thread collects Julia's garbage."""
    f = Forced()
    expected = [outcome(f, number, hooks, method) for number in range(THREADS)]
    main = start().main

    def run(number):
        if number == THREADS:
            for _ in range(5):
                main.seval("GC.gc()")
            return True
        return equal(outcome(f, number, hooks, method), expected[number])

    assert all(together(THREADS + 1, run))


@pytest.mark.parametrize("hooks", HOOKS)
def test_gradients_of_one_solve_at_once(hooks):
    """Each of another component, in threads that have not solved."""
    f = Forced()
    y0, solution = solved(f, tensor(1.0, -0.5, 0.3), hooks)
    expected = [gradients(f, y0, solution, component) for component in range(3)]
    found = together(3, lambda component: gradients(f, y0, solution, component))
    assert all(equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_field_that_solves_in_threads():
    def outer(t, y):
        with torch.no_grad():
            inner = solve(lambda t, y: -y, y.detach(), [0.0, 0.1], method="Tsit5", backend="julia")
        return -inner.y[-1]

    def run(number):
        backend = JuliaBackend(hooks="python")
        with torch.no_grad():
            return solve(outer, smooth_exact(0.0), [0.0, 1.0], method="Tsit5", backend=backend).y

    expected = run(0)
    assert all(torch.equal(found, expected) for found in together(3, run))


def test_solves_are_deleted_in_any_thread():
    kept = "length(PyNODE.KEPT.values)"
    main = start().main
    gc.collect()  # what earlier tests left in cycles
    before = int(main.seval(kept))
    f = Forced()
    solutions = [solved(f, tensor(1.0, -0.5, 0.3), "native") for _ in range(4)]
    assert int(main.seval(kept)) == before + 4

    def run(number):
        del solutions[-1]
        gc.collect()

    together(4, run)
    assert int(main.seval(kept)) == before
    next_solve_works()


# Each with the first solves in several threads, of which the main one is none: Julia starts once,
# and the process ends as it should.
FIRST = """
import threading, torch, pynode
found = []
def run():
    y0 = torch.ones(2, dtype=torch.float64)
    found.append(pynode.solve(lambda t, y: -y, y0, [0.0, 1.0], method="Tsit5", backend="julia").y)
threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), all(torch.equal(y, found[0]) for y in found))
"""
# Another package has started Julia in a thread that lives on.
ELSEWHERE = """
import threading, torch, pynode
loaded, told, started = threading.Event(), threading.Event(), threading.Event()
def other():
    import juliacall
    loaded.set()
    told.wait()
    pynode.julia.start()
    started.set()
threading.Thread(target=other).start()
loaded.wait()
try:
    pynode.julia.start()
except pynode.julia.JuliaUnavailable as error:
    print(error)
told.set()
started.wait()
from pynode.backends.julia.runtime import start
print(start().entries.parallel)
"""


def printed(code, **variables):
    """The lines that a process prints. variables: its environment has them besides."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_the_first_solves_in_threads():
    assert printed(FIRST) == ["3 True"]


@pytest.mark.parametrize(("signals", "parallel"), [("yes", "True"), ("no", "False")])
def test_julia_was_started_in_another_thread(signals, parallel):
    """With and without handlers of signals. Julia's garbage collector may not run before the other
    thread has prepared itself."""
    sentence, found = printed(ELSEWHERE, PYTHON_JULIACALL_HANDLE_SIGNALS=signals)
    assert "another package has started Julia in another thread" in sentence
    assert "call pynode.julia.start() there" in sentence and found == parallel


def test_faulthandler_after_the_start():
    """Julia's garbage collector stops other threads by the fault that faulthandler would report."""
    collect = "main.seval('GC.gc()')"
    solves = FIRST.replace("found.append", f"{collect}; found.append")
    begin = "import faulthandler, pynode; pynode.julia.start(); faulthandler.enable()\n"
    main = "from pynode.backends.julia.runtime import start; main = start().main\n"
    assert printed(begin + main + solves) == ["3 True"]
