"""The example's reader of MNIST's files, on files that the tests write."""

import gzip

import numpy as np
import pytest
import torch

from examples.mnist import read_idx, read_mnist
from pynode.data import DataError
from tests.support.idx import CODES, idx


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 4, 3))


def write_mnist(folder, images, labels):
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(labels))


@pytest.mark.parametrize("kind", CODES)
def test_every_type_in_the_order_of_the_file(kind, tmp_path):
    values = np.arange(24).reshape(2, 3, 4) - (0 if kind == "u1" else 7)
    (tmp_path / "x").write_bytes(idx(values, kind))
    found = read_idx(tmp_path / "x")
    assert found.numpy().dtype == np.dtype(kind) and found.tolist() == values.tolist()


def test_compressed_or_not(images, tmp_path):
    (tmp_path / "x").write_bytes(idx(images))
    (tmp_path / "y").write_bytes(gzip.compress(idx(images)))
    assert torch.equal(read_idx(tmp_path / "x"), read_idx(tmp_path / "y"))


def test_the_two_files_of_a_part(images, tmp_path):
    write_mnist(tmp_path, images, [7, 2, 1, 0, 4])
    found, labels = read_mnist(tmp_path, "test")
    torch.testing.assert_close(found, torch.tensor(images) / 255)
    assert labels.tolist() == [7, 2, 1, 0, 4] and labels.dtype == torch.int64
    with pytest.raises(
        DataError,
        match=r"neither train-images-idx3-ubyte nor train-images-idx3-ubyte\.gz: name the folder",
    ):
        read_mnist(tmp_path)
    with pytest.raises(ValueError, match="part must be one of train, test, not 'validation'"):
        read_mnist(tmp_path, "validation")
    for wrong in ([1, 2, 3], images):
        write_mnist(tmp_path, images, wrong)
        with pytest.raises(
            DataError,
            match=r"images of shape \(5, 4, 3\) and labels of shape .* of the same data set",
        ):
            read_mnist(tmp_path, "test")


def test_wrong_and_damaged_files_are_told(images, tmp_path):
    path, whole = tmp_path / "x", idx(images)
    packed = gzip.compress(whole)
    for raw, said in [
        (b"", "is not an idx file.*but with nothing: name a file"),
        (b"\x89PNG\r\n", "is not an idx file.*but with 89 50 4e 47"),
        (b"\0\0\x07\x01", "is not an idx file"),  # no such type
        (whole[:9], "ends after 9 bytes, inside its header of 16: download it again"),
        (whole[:16], "has 16 bytes, but its header says 76"),
        (whole[:-1], "has 75 bytes, but its header says 76: it is damaged, download it again"),
        (whole + b"\0", "has 77 bytes, but its header says 76"),
        (packed[:-9], "cannot be decompressed .*: copy or download it again"),
        (packed[:20] + bytes(8) + packed[28:], "cannot be decompressed"),
    ]:
        path.write_bytes(raw)
        with pytest.raises(DataError, match=said):
            read_idx(path)
