"""torchdiffeq's names: ``import pynode.compat.torchdiffeq as torchdiffeq``, or ``install()`` for
code that is not changed.

``python -m pynode.compat.torchdiffeq script.py arguments`` runs a script with it in the place of
torchdiffeq.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys

from .adjoint import odeint_adjoint
from .odeint import odeint, odeint_dense, odeint_event

__version__ = "0.2.5"
__all__ = ["install", "odeint", "odeint_adjoint", "odeint_dense", "odeint_event"]


def install():
    """From now on ``import torchdiffeq`` gives this module, which is returned."""
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
