"""Writes files atomically: a file is either the complete old one or the complete new one."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

# torch's format is a zip archive. The comment at its end holds a checksum of everything before it.
_SEAL = b"pynode sha256 "
_SEALED = len(_SEAL) + 64


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


def save_torch(path: str | os.PathLike[str], plain: dict) -> None:
    """Write plain data and tensors atomically, in torch's format with a checksum."""
    # Through memory: torch's writer reports a full disk as a RuntimeError without the cause.
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    save_atomically(path, _sealed(buffer.getvalue()))


def unsealed(content: bytes) -> bytes:
    """The content of a file of save_torch as torch wrote it. Raise ValueError if a byte of the file
    has changed."""
    whole = content[: -_SEALED - 2] + bytes(2)
    if content[-_SEALED:].startswith(_SEAL) and content == _sealed(whole):
        return whole
    raise ValueError("the checksum in the file does not match its content")


def _sealed(content) -> bytes:
    """The archive with the checksum as its comment. An archive ends with the length of the comment,
    two bytes, and the comment."""
    seal = _SEAL + hashlib.sha256(content).hexdigest().encode()
    return content[:-2] + len(seal).to_bytes(2, "little") + seal


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
