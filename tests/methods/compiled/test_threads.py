"""Compiled steps in threads other than torch's own."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pynode import solve
from pynode.methods import registry
from pynode.methods.compiled.torch_compile import Compiled
from tests.support.cases import tensor
from tests.support.compiledcase import TIMES, TRACED, Field


def in_thread(run):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(timeout=120)


def test_cuda_graphs_stay_in_the_threads_that_have_them():
    """Elsewhere the same steps are compiled without, and the two are kept apart."""
    field = Field()

    def made():
        def function(x):
            return x

        variants = [lambda: (function, function)]
        device = torch.device("cuda")
        return Compiled(field, (), variants, lambda *_: None, "inductor", device, graphed=True)

    here, there = made(), in_thread(made)
    assert here.options == {"triton.cudagraphs": True}
    assert there.options == {"triton.cudagraphs": False}
    assert here.key != there.key
    assert in_thread(made).key == there.key


@pytest.mark.parametrize("batched", [False, True], ids=["single", "rows"])
@pytest.mark.parametrize("method", ["Tsit5", "Rodas5P"])
def test_solves_in_a_thread(method, batched):
    field = Field()

    def run():
        start = tensor(1.0, -0.5)
        y0 = (start.repeat(3, 1) if batched else start).requires_grad_()
        compiled = registry.get(method, compile=TRACED)
        y = solve(field, y0, TIMES, method=compiled, batched=batched).y
        return [y.detach(), *torch.autograd.grad(y.sum(), [y0, *field.parameters()])]

    for a, b in zip(in_thread(run), run(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
