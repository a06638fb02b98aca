"""The names of torchdiffeq: ``import pynode.compat.torchdiffeq as torchdiffeq``, or ``install()``
for unchanged code.

``python -m pynode.compat.torchdiffeq script.py arguments`` runs a script that then imports this
module as torchdiffeq.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from types import ModuleType

from .adjoint import odeint_adjoint
from .odeint import odeint, odeint_dense, odeint_event

__version__ = "0.2.5"
__all__ = ["install", "odeint", "odeint_adjoint", "odeint_dense", "odeint_event"]


def install() -> ModuleType:
    """After this call ``import torchdiffeq`` imports this module. Returns it."""
    module = importlib.import_module(f"{__package__}.torchdiffeq")
    sys.modules["torchdiffeq"] = module
    return module


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m pynode.compat.torchdiffeq script.py [arguments]")
    install()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    runpy.run_path(sys.argv[0], run_name="__main__")
