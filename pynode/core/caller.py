"""The line of the user to which a warning belongs."""

from __future__ import annotations

import os
import sys

import torch

# Folders whose code stands between the user and a warning.
_INSIDE = tuple(
    os.path.dirname(os.path.abspath(path)) + os.sep
    for path in (os.path.dirname(__file__), torch.__file__)
)


def level_of_caller() -> int:
    """The stacklevel with which a warning of the calling function names the first line outside of
    pynode and torch."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        frame = frame.f_back
        level += 1
    return level
