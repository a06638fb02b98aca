"""The arrays of solves in one block of memory, and where compiled code finds them."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from pynode.backends.native.blocks import Blueprint, Given, Own
from pynode.backends.native.machine import SLOT, address


class Arrays(NamedTuple):
    state: Any
    matrix: Any
    table: Any
    outputs: Any
    empty: Any


TABLE = np.arange(5.0)


@pytest.fixture
def blueprint():
    return Blueprint(
        Arrays,
        {
            "state": Own((3,), np.float32, True),
            "matrix": Own((2, 4), np.float64),
            "table": TABLE,
            "outputs": Given(2, np.float64),
            "empty": Own((0, 3), np.int64, True),
        },
    )


def described(blocks, name, i=0):
    """(address, shape) of an array as compiled code reads them."""
    place = blocks.blueprint.places[name]
    numbers = blocks.slots[i, place : place + SLOT].tolist()
    return numbers[0], tuple(numbers[1:])


def test_arrays_of_one_solve(blueprint):
    blocks = blueprint.blocks()
    state = blocks.of("state")
    assert state.dtype == np.float32
    assert state.tolist() == [0.0, 0.0, 0.0]
    assert described(blocks, "state") == (address(state), (3, 1, 1))
    assert described(blocks, "matrix") == (address(blocks.of("matrix")), (2, 4, 1))
    assert described(blocks, "table") == (address(TABLE), (5, 1, 1))
    assert described(blocks, "empty")[1] == (0, 3, 1)
    outputs = np.empty((7, 3))
    blocks.give(outputs=outputs)
    assert blocks.of("outputs") is outputs
    assert described(blocks, "outputs") == (address(outputs), (7, 3, 1))
    assert isinstance(blocks.memory(), Arrays)


def test_arrays_do_not_overlap(blueprint):
    blocks = blueprint.blocks(2)
    for i in range(2):
        blocks.of("state", i)[:] = i + 1
        blocks.of("matrix", i)[:] = 10 * (i + 1)
    assert blocks.each("state").tolist() == [[1.0] * 3, [2.0] * 3]
    assert (blocks.each("matrix") == np.array([10.0, 20.0])[:, None, None]).all()


def test_arrays_of_many_solves(blueprint):
    blocks = blueprint.blocks(3)
    outputs = np.arange(24.0).reshape(3, 4, 2)
    blocks.give_each("outputs", outputs, np.array([4, 2, 3]))
    assert blocks.each("outputs") is outputs
    assert blocks.of("outputs", 1).tolist() == [[8.0, 9.0], [10.0, 11.0]]
    assert described(blocks, "outputs", 2) == (address(outputs[2]), (3, 2, 1))
    assert blocks.of("table", 2) is TABLE


def test_a_larger_array_for_one_solve(blueprint):
    blocks = blueprint.blocks(2)
    larger = np.ones((5, 4))
    blocks.replace("matrix", 1, larger)
    assert blocks.of("matrix", 1) is larger
    assert described(blocks, "matrix", 1) == (address(larger), (5, 4, 1))
    assert blocks.of("matrix", 0).shape == (2, 4)


def test_arrays_of_other_blocks(blueprint):
    source = blueprint.blocks(2)
    blocks = blueprint.blocks(2)
    blocks.point("state", source.slots, blueprint.places["state"])
    assert described(blocks, "state", 1) == described(source, "state", 1)
    work = np.empty(9)
    blocks.lend("table", np.array([1]), work)
    assert described(blocks, "table", 1) == (address(work), (9, 1, 1))
    assert described(blocks, "table", 0) == (address(TABLE), (5, 1, 1))
