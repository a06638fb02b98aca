"""Published models: files of systems biology and combustion as torch modules, with inputs and
doses.

Each name is loaded at its first use, because each format needs a package of its own (an extra)."""

import importlib

# name -> its module, below pynode.models
_LAZY = {
    "Doses": "doses",
    "DrivenModel": "driven",
    "InputTable": "inputs",
    "ReactionModel": "reactions.model",
    "antimony": "sbml_files.antimony_text",
    "cantera": "combustion.read",
    "petab": "petab_files.read",
    "sbml": "sbml_files.read",
}

__all__ = list(_LAZY)


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_LAZY[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(_LAZY)
