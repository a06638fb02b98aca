"""Writes files atomically: a file is either the complete old one or the complete new one."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any


def save_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write the bytes to a temporary file beside path, flush it to the disk, and move it to path.
    Return the path.

    If path is not a regular file, such as /dev/stdout, write to it directly. If the disk is full or
    not writable, raise OSError with a sentence that names the file; the previous file stays
    unchanged.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    is_regular = target.is_file() or not target.exists()
    if is_regular:
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    else:
        temporary = path
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            if is_regular:
                os.fsync(file.fileno())
        if is_regular:
            os.replace(temporary, target)
    except OSError as error:
        raise OSError(error.errno, _reason(path, error)) from error
    finally:
        if is_regular:
            temporary.unlink(missing_ok=True)
    return path


def save_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write text in UTF-8 atomically."""
    return save_atomically(path, text.encode())


def save_figure(path: str | os.PathLike[str], figure: Any, dpi: float) -> Path:
    """Write a matplotlib figure atomically, in the format of the name's ending; PNG if there is
    none."""
    path = Path(path)
    if not path.suffix:
        path = path.with_name(path.name + ".png")
    # Through memory: matplotlib's error does not name the file, and leaves half of it behind.
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], dpi=dpi)
    return save_atomically(path, buffer.getvalue())


def _reason(path, error) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "the disk is full"
    else:
        what = (error.strerror or str(error)).lower()
    if path.is_file():
        note = "; the previous file is unharmed"
    else:
        note = ""
    return f"{path} could not be written: {what}{note}. Make room, or choose another directory."
