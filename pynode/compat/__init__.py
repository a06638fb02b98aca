"""Other packages' interfaces to pynode's methods."""

import importlib


def __getattr__(name):
    if name != "torchdiffeq":
        raise AttributeError(f"module 'pynode.compat' has no attribute {name!r}")
    return importlib.import_module("pynode.compat.torchdiffeq")


def __dir__():
    return sorted({*globals(), "torchdiffeq"})
