"""Arrays in the idx format, in which MNIST and its successors come (Y. LeCun, C. Cortes & C.
Burges, "The MNIST database").

Two zero bytes, the code of the type, the number of dimensions; their sizes as big-endian integers
of four bytes; then the values, big-endian, the last dimension fastest.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from .data import DataError

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
PARTS = {"train": "train", "test": "t10k"}


def read_idx(path) -> torch.Tensor:
    """The array in the idx file at path, compressed by gzip or not, in the shape and type that it
    names.

    DataError where the file is not of this format, or shorter or longer than it says.
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
    told = start + kind.itemsize * math.prod(shape)
    if len(raw) != told:
        raise DataError(
            f"{path} has {len(raw)} bytes where its header tells {told}: it is damaged, download it"
            " again."
        )
    values = np.frombuffer(raw, kind, offset=start).astype(kind.newbyteorder("="))
    return torch.from_numpy(values).reshape(shape)


def read_mnist(folder, part="train") -> tuple[torch.Tensor, torch.Tensor]:
    """Images (n, 28, 28), from 0 to 1, and labels (n,), int64, of the part 'train' or 'test' of
    MNIST.

    folder: where the four files lie under their own names (train-images-idx3-ubyte, ...), with .gz
    or without. Those of Fashion-MNIST and KMNIST have the same names. DataError where one is
    missing, or images and labels do not fit.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, not {part!r}")
    ends = "images-idx3-ubyte", "labels-idx1-ubyte"
    images, labels = (read_idx(_find(Path(folder), f"{PARTS[part]}-{end}")) for end in ends)
    if images.dim() != 3 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{folder} has images of shape {tuple(images.shape)} and labels of shape"
            f" {tuple(labels.shape)}: they must be (n, rows, columns) and (n,), of the same data"
            " set."
        )
    return images / 255, labels.long()


def _find(folder, name):
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"{folder} has neither {name} nor {name}.gz: name the folder that the files of MNIST"
        " lie in."
    )
