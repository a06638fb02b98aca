"""Records that know which of their fields were given, and names that are loaded late."""

import pickle
from dataclasses import KW_ONLY, dataclass

import pytest

from pynode.core.given import Given
from pynode.core.lazy import lazily


@dataclass(frozen=True)
class Record(Given):
    first: int = 1
    _: KW_ONLY
    second: int = 2
    third: int = 3


def test_what_was_given_is_known():
    assert Record().given == {}
    assert Record(1, third=3).given == {"first": 1, "third": 3}
    assert Record(1) == Record() and hash(Record(1)) == hash(Record())


def test_copies_keep_it():
    record = Record(5, second=6)
    again = pickle.loads(pickle.dumps(record))
    assert again == record and again.given == {"first": 5, "second": 6}


def test_a_misspelt_field_is_named():
    with pytest.raises(TypeError, match=r"Record has no option 'secnod': did you mean 'second'\?"):
        Record(secnod=1)


def test_names_are_loaded_at_their_first_use():
    load, listed = lazily("pynode.core", {"status": ("Status",)})
    assert "Status" in listed()
    assert load("Status").__name__ == "Status"
    with pytest.raises(AttributeError, match=r"module 'pynode.core' has no attribute 'Stauts'"):
        load("Stauts")
