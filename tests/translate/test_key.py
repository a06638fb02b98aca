"""What has a key, and what changes it."""

import dataclasses
from typing import NamedTuple

import torch

from pynode.translate.key import Walk


@dataclasses.dataclass(frozen=True)
class Settings:
    """Plain numbers, as models keep them."""

    gain: float
    shifts: tuple[float, ...] = (1.0, 2.0)

    def applied(self, y):
        return self.gain * y + self.shifts[0]


class Configured(torch.nn.Module):
    """A field with its settings in a dataclass."""

    def __init__(self, **settings):
        super().__init__()
        self.settings = Settings(**settings)

    def forward(self, t, y):
        return self.settings.applied(y)


def digest(**settings):
    return Walk([Configured(**settings)]).digest


def test_a_dataclass_has_a_key():
    assert digest(gain=2.0) is not None
    assert digest(gain=2.0) == digest(gain=2.0, shifts=(1.0, 2.0))
    assert len({digest(gain=2.0), digest(gain=3.0), digest(gain=2.0, shifts=(1.5, 2.0))}) == 3


def test_dataclasses_with_other_fields_or_options_have_other_keys():
    def made(order, more):
        class Made:
            a: float

        if more:
            Made.__annotations__["b"] = float
            Made.b = 1.0
        return dataclasses.dataclass(order=order)(Made)(1.0)

    digests = {
        Walk([made(order, more)]).digest for order in (False, True) for more in (False, True)
    }
    assert None not in digests
    assert len(digests) == 4


def test_a_changed_dataclass_is_seen():
    field = Configured(gain=2.0)
    walk = Walk([field])
    assert walk.watch.holds()
    field.settings = Settings(3.0)
    assert not walk.watch.holds()


class Pair(NamedTuple):
    """What a method of a field hands on to another one."""

    first: torch.Tensor
    second: torch.Tensor


class Paired(torch.nn.Module):
    """A field with a named tuple."""

    def forward(self, t, y):
        pair = Pair(y, 2.0 * y)
        return pair.second - pair.first


def test_named_tuples_are_understood():
    walk = Walk([Paired()])
    assert walk.digest is not None
    assert walk.certain
