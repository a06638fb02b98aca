"""Which of SciML's methods may take the short way (solve_short.py), which reads no options."""

import pytest
import torch

from pynode import FBDF, JuliaBackend
from pynode.backends.julia.algorithms import JuliaMethod
from pynode.solve_short import JuliaWay


@pytest.mark.parametrize("method", ["Rodas5P", "fbdf", FBDF(), "AutoTsit5(Rodas5P())"])
def test_plain_methods_take_it(method):
    assert not JuliaWay().refuses(JuliaBackend.method(method), torch.float64)


@pytest.mark.parametrize(
    "method",
    [
        FBDF(jacobian="sparse"),
        FBDF(jacobian="krylov"),
        "CVODE_BDF",
        "ETDRK2",
        "RadauIIA5",
        "ImplicitMidpoint",
        JuliaMethod("Rodas5P", 5, "an object with options of its own", algorithm=object()),
    ],
)
def test_methods_with_options_do_not(method):
    chosen = method if isinstance(method, JuliaMethod) else JuliaBackend.method(method)
    assert JuliaWay().refuses(chosen, torch.float64)
