"""Reads the files of MNIST and its successors, arrays in the idx format (Y. LeCun, C. Cortes & C.
Burges, "The MNIST database").

A file has two zero bytes, the code of the type, the number of dimensions, the sizes as big-endian
integers of four bytes, and the values, big-endian, the last dimension fastest.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from pynode.data import DataError

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
PARTS = {"train": "train", "test": "t10k"}


def read_idx(path: str | Path) -> torch.Tensor:
    """The array in the idx file at path, compressed by gzip or not, in its own shape and type.

    Raises DataError if the file does not have this format, or not the length in its header.
    """
    raw = Path(path).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(
                f"{path} cannot be decompressed ({error}): copy or download it again."
            ) from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in TYPES:
        raise DataError(
            f"{path} is not an idx file, which begins with two zero bytes and the code of a type,"
            f" but with {raw[:4].hex(' ') or 'nothing'}: name a file such as"
            " train-images-idx3-ubyte.gz."
        )
    start = 4 + 4 * raw[3]
    kind = np.dtype(">" + TYPES[raw[2]])
    if len(raw) < start:
        raise DataError(
            f"{path} ends after {len(raw)} bytes, inside its header of {start}: download it again."
        )
    shape = np.frombuffer(raw, ">u4", raw[3], offset=4).tolist()
    expected = start + kind.itemsize * math.prod(shape)
    if len(raw) != expected:
        raise DataError(
            f"{path} has {len(raw)} bytes, but its header says {expected}: it is damaged,"
            " download it again."
        )
    values = np.frombuffer(raw, kind, offset=start).astype(kind.newbyteorder("="))
    return torch.from_numpy(values).reshape(shape)


def read_mnist(folder: str | Path, part: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
    """Images (n, 28, 28), from 0 to 1, and labels (n,), int64, of the part 'train' or 'test'.

    folder: holds the four files under their own names (train-images-idx3-ubyte, ...), with .gz or
    without. The files of Fashion-MNIST and KMNIST have the same names. Raises DataError if one is
    missing, or if images and labels do not fit.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, not {part!r}")
    images = read_idx(_find(Path(folder), f"{PARTS[part]}-images-idx3-ubyte"))
    labels = read_idx(_find(Path(folder), f"{PARTS[part]}-labels-idx1-ubyte"))
    if images.dim() != 3 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{folder} has images of shape {tuple(images.shape)} and labels of shape"
            f" {tuple(labels.shape)}: they must be (n, rows, columns) and (n,), of the same data"
            " set."
        )
    return images / 255, labels.long()


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"{folder} has neither {name} nor {name}.gz: name the folder with the files of MNIST."
    )
