"""Fields that say what they compute with: nothing else of them counts in the key."""

import torch

from pynode.translate.key import Walk


class Decay(torch.nn.Module):
    """-rate(y), with a tensor and an attribute that no walk understands."""

    def __init__(self, rate, note):
        super().__init__()
        self.rate = rate
        self.register_buffer("k", torch.ones((), dtype=torch.float64))
        self.note = note

    def forward(self, t, y):
        return -self.k * self.rate(y)

    def __field_parts__(self):
        return (self.rate, self.k)


def linear(y):
    return y


def squared(y):
    return y * y


def test_what_counts_and_what_does_not():
    first, same, other = (
        Decay(linear, iter("a")),
        Decay(linear, iter("b")),
        Decay(squared, iter("a")),
    )
    digests = [Walk([field]).digest for field in (first, same, other)]
    assert digests[0] is not None and digests[0] == digests[1] != digests[2]
    assert [id(x) for x in Walk([first]).tensors] == [id(first.k)]


def test_a_changed_part_is_noticed():
    field = Decay(linear, None)
    watch = Walk([field]).watch
    assert watch.holds()
    field.note = "changed"
    assert watch.holds()
    field.rate = squared
    assert not watch.holds()
