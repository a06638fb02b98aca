"""Steps of many rows at once, each with its own size. A stepper registers itself for its family of
methods in ``base.STEPPERS``; all modules of this folder are imported, so that none is missing."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
