"""Gradients of the steps that a solve took. What goes back over the steps of a family of methods
registers itself in ``replay``; all modules of this folder are imported, so that none is missing."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
