"""Arguments in lists and dicts reach f as the user passes them."""

import pytest
import torch

from pynode import solve

DOUBLE = torch.float64
Y0 = torch.tensor([1.0, 0.5, 0.25], dtype=DOUBLE)


def _first_of_list(t, y, rates):
    return -rates[0] * y


def _from_dict(t, y, rates):
    return -rates["decay"] * y


def _from_nested(t, y, rates):
    return -rates[0]["decay"][0] * y


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    ("f", "pack"),
    [
        # A vector in a list: its first number is another right-hand side than its first item.
        (_first_of_list, lambda k: [k]),
        (_from_dict, lambda k: {"decay": k}),
        (_from_nested, lambda k: ({"decay": [k]},)),
    ],
)
def test_one_tensor_in_a_container(f, pack, batched):
    y0 = Y0.expand(3, 3) if batched else Y0
    found = {}
    for backend in ("torch", "native"):
        rates = torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE, requires_grad=True)
        solution = solve(f, y0, (0.0, 1.0), args=(pack(rates),), batched=batched, backend=backend)
        solution.y[-1].sum().backward()
        found[backend] = (solution.y.detach(), rates.grad)
    torch.testing.assert_close(found["native"][0], found["torch"][0], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found["native"][1], found["torch"][1], rtol=1e-5, atol=1e-9)
