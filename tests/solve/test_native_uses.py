"""backend='native' from other doors, in threads and many times."""

import gc
import threading

import torch

from pynode import solve
from pynode.compat.torchdiffeq import odeint
from pynode.nn import NeuralODE
from tests.support.cases import Forced, tensor
from tests.support.engine_pairs import TIMES, both


def test_transforms():
    """solve inside torch.func's grad and vmap."""

    def end(y0, backend):
        return solve(lambda t, y: -y * y, y0, (0.0, 1.0), method="tsit5", backend=backend).y[-1]

    starts = tensor(1.0, 2.0, 3.0).unsqueeze(1)
    for transform in (torch.func.vmap, lambda g: torch.func.vmap(torch.func.jacrev(g))):
        mine = transform(lambda y: end(y, "native"))(starts)
        theirs = transform(lambda y: end(y, "torch"))(starts)
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_models_and_the_other_door():
    field = Forced(3)
    start = torch.ones(3, dtype=torch.float64)
    model = NeuralODE(field, TIMES, method="rodas5p", backend="native")
    expected = solve(field, start, TIMES, method="rodas5p").y
    torch.testing.assert_close(model(start, TIMES), expected, rtol=1e-9, atol=1e-12)
    found = odeint(field, start, TIMES, method="rodas5p", rtol=1e-6, atol=1e-9, backend="native")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_threads_that_solve_at_once():
    field = Forced(3)
    start = torch.ones(3, dtype=torch.float64)
    alone = both(field, start, TIMES, method="rodas5p")[1]
    found = [None] * 8

    def work(i):
        found[i] = both(field, start, TIMES, method="rodas5p")[1]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for y, grads in found:
        assert torch.equal(y, alone[0])
        assert all(map(torch.equal, grads, alone[1]))


def test_solves_leave_nothing_behind():
    field = Forced(3)

    def solves(count):
        for _ in range(count):
            both(field, torch.ones(3, dtype=torch.float64), TIMES, method="rodas5p")
        gc.collect()
        return len(gc.get_objects())

    solves(3)
    before = solves(1)
    assert solves(30) < before + 100
