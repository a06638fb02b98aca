"""How many rows of a gradient go together, by the memory of the device."""

import pytest
import torch

from pynode import solve
from pynode.adjoints import field_products
from pynode.core.memory import total_memory
from tests.support.on_device import NAME, leaf, strict
from tests.support.pretended import module

HERE = torch.device(NAME, 0)


@pytest.fixture
def memory(monkeypatch):
    """Sets the gigabytes of the device."""

    def sized(gigabytes):
        monkeypatch.setattr(module, "memory", int(gigabytes * 2**30), raising=False)
        total_memory.cache_clear()

    yield sized
    total_memory.cache_clear()


@pytest.mark.parametrize(
    ("gigabytes", "rows"), [(0, 1 << 14), (2, 1 << 14), (8, 1 << 15), (24, 1 << 16), (141, 1 << 19)]
)
def test_rows_by_memory(memory, gigabytes, rows):
    """A small device takes as many as the CPU, a large one more, and no row less than 256 KB."""
    memory(gigabytes)
    assert field_products.rows_at_once(HERE) == rows
    assert field_products.rows_at_once(torch.device("cpu")) == 1 << 14
    assert field_products.chunk_size(4, HERE) == rows // 4
    points = field_products.chunk_size(1000, HERE)
    assert 8 * points * 1000**2 <= max(gigabytes * 2**30 / 16, 1 << 26)


@pytest.mark.parametrize("method", ["Rodas5P", "QNDF"])
def test_fewer_calls_on_a_large_device(memory, method, monkeypatch):
    """The rows of the CPU, made few, take several chunks that a large device does at once."""
    monkeypatch.setattr(field_products, "ROWS", 32)
    calls, results = [], []
    for gigabytes in (0, 8):
        memory(gigabytes)
        with strict():
            count = [0]
            rate = leaf([1.0, 2.0, 3.0, 4.0], NAME)

            def f(t, y, rate, count=count):
                count[0] += 1
                return -rate.unsqueeze(-1) * y * y + torch.sin(t)

            y0 = torch.ones(4, 2, dtype=torch.float64, device=NAME)
            options = {"method": method, "batched": True}
            y = solve(f, y0, [0.0, 3.0], args=(rate,), **options).y[-1]
            before = count[0]
            results.append(torch.autograd.grad(y.sum(), rate)[0].to("cpu"))
            calls.append(count[0] - before)
    assert calls[1] < 0.5 * calls[0]
    torch.testing.assert_close(*results, rtol=1e-12, atol=0)
