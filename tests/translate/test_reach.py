"""Jacobians as scalars, unit vector by unit vector: only the statements are visited to which one
comes, also where one writes over what another left."""

import torch

from pynode.translate import translate
from tests.support.native_fields import DOUBLE, difference

COUNT = 60


def chain(t, y):
    """Each component flows to the next one, faster with the time."""
    parts = y.unbind(-1)
    flows = [a * b + torch.sin(t) * a for a, b in zip(parts[:-1], parts[1:], strict=True)]
    changes = [-flows[0]]
    changes += [before - after for before, after in zip(flows[:-1], flows[1:], strict=True)]
    return torch.stack([*changes, flows[-1] * t], -1)


def overwritten(t, y):
    """Zeros and products stand in place of what was there before."""
    whole = t * y * y
    whole = torch.slice_scatter(whole, torch.zeros_like(y[1:4]), 0, 1, 4)
    whole = torch.slice_scatter(whole, (y[5:7] * y[0:2]), 0, 2, 4)
    return torch.index_put(whole, (torch.tensor([5, 8]),), torch.stack((y[1], t * t)))


def check(f, count, names):
    y0 = torch.linspace(0.5, 1.5, count, dtype=DOUBLE)
    field = translate(f, y0, 0.3)
    for name in names:
        assert difference(field, f, (), name, 0.45, (1.1 * y0).numpy()) < 1e-12, name
        assert "loop" not in field.text(name), name
    return field


def test_a_chain(tmp_path, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path))
    field = check(chain, COUNT, ("f", "jac", "jac_time", "jac_step"))
    rows, columns = field.pattern()
    assert len(rows) == 3 * COUNT - 2
    assert int(abs(rows - columns).max()) == 1


def test_what_is_written_over(tmp_path, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", str(tmp_path))
    check(overwritten, 10, ("f", "jac", "jac_time", "jac_step"))
