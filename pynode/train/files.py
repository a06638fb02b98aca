"""Writing a file so that there is always a whole one: the old until the moment when the new is complete."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import torch


def save_atomically(path, content: bytes) -> None:
    """Write the bytes to a temporary file beside path, flush it to the disk, and put it in path's place.

    OSError, with a sentence, where the disk is full or not writable; the file that was there before stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, _reason(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_torch(path, plain: dict) -> None:
    """Write plain data and tensors in torch's format, atomically. OSError as above."""
    # Through memory: torch's own writer reports a full disk as a RuntimeError from which the cause is gone.
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    save_atomically(path, buffer.getvalue())


def _reason(path, error) -> str:
    what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error)).lower()
    kept = "; the previous file is unharmed" if path.exists() else ""
    return f"{path} could not be written: {what}{kept}. Make room, or choose another directory."
