"""What the reasons against native functions for Julia have in common."""

from __future__ import annotations

from typing import Any

from ..packages import missing_for_native


def missing_packages() -> str:
    """Which Python packages a translation lacks, as a sentence; '' if none."""
    missing = missing_for_native()
    if missing:
        return f"it needs {' and '.join(missing)} (pip install 'torch-stiff-ode[native]')"
    return ""


def owner(f: Any) -> Any:
    """The object that exists as long as f: of a method, the one it belongs to."""
    return getattr(f, "__self__", f)
