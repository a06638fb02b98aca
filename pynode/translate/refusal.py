"""What cannot be translated is refused, with the operation and the user's line."""

from __future__ import annotations

import os
import sys
from types import FrameType

import torch

_TORCH = os.path.dirname(torch.__file__)
_HERE = os.path.dirname(__file__)


class TranslationRefused(ValueError):
    """The function cannot become native code, or it could become wrong native code."""


def user_line() -> str:
    """', at FILE:LINE' of the innermost Python frame outside torch and this room; '' if all frames
    belong to them (a backward pass)."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_TORCH, _HERE)) and not name.startswith("<frozen"):
            return f", at {name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
