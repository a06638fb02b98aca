"""The packages of the extra ``fit``."""

from __future__ import annotations

from importlib.util import find_spec

NEEDED = ("pypesto", "fides", "scipy")


def require() -> None:
    """Raise ImportError, with the remedy, if one of the packages is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"estimation needs {' and '.join(missing)}: pip install 'torch-stiff-ode[fit]'"
        )
