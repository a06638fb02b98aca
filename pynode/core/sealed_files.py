"""Files of torch with a checksum: a byte that has changed is noticed."""

from __future__ import annotations

import hashlib
import io
import os

import torch

from .files import save_atomically

# torch's format is a zip archive. The comment at its end holds a checksum of everything before it.
_SEAL = b"pynode sha256 "
_SEALED = len(_SEAL) + 64


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
