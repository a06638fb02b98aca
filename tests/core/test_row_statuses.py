"""The statuses and the records of the rows of a batch: sequences that cost little for many rows."""

import copy
import pickle

import numpy as np
import pytest

from pynode.core.events import RowRecords
from pynode.core.row_statuses import RowStatuses
from pynode.core.status import Status


def some():
    statuses = RowStatuses.running(4)
    statuses[0] = Status.SUCCESS
    statuses[np.array([False, True, False, True])] = Status.MAX_STEPS
    return statuses


def test_a_sequence_of_statuses():
    statuses = some()
    expected = [Status.SUCCESS, Status.MAX_STEPS, None, Status.MAX_STEPS]
    assert len(statuses) == 4
    assert list(statuses) == expected
    assert statuses == expected
    assert statuses != expected[:3]
    assert statuses[-1] is Status.MAX_STEPS
    assert list(statuses[1:3]) == expected[1:3]
    assert repr(statuses) == repr(expected)
    with pytest.raises(IndexError):
        statuses[4]


def test_masks_and_what_occurs():
    statuses = some()
    assert statuses.are(Status.MAX_STEPS).tolist() == [False, True, False, True]
    assert statuses.good().tolist() == [True, False, False, False]
    assert Status.SUCCESS in statuses
    assert Status.DOMAIN not in statuses
    assert set(statuses.present()) == {Status.SUCCESS, Status.MAX_STEPS, None}


@pytest.mark.parametrize("status", Status)
def test_every_status_has_a_number(status):
    statuses = RowStatuses.running(2)
    statuses[1] = status
    assert statuses[1] is status
    assert statuses.good()[1] == status.success


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(copied):
    statuses = some()
    other = copied(statuses)
    assert other == statuses
    other[0] = Status.DOMAIN
    assert statuses[0] is Status.SUCCESS


def test_records_are_a_list_for_each_row():
    records = RowRecords(3)
    records[np.int64(1)].append("a record")
    assert len(records) == 3
    assert list(records) == [[], ["a record"], []]
    assert records == [[], ["a record"], []]
    assert records[-2] == ["a record"]
    assert records[1:] == [["a record"], []]
    with pytest.raises(IndexError, match="no row 3: the batch has 3 rows"):
        records[3]
