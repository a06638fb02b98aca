"""The places where a vector field can keep a tensor, one function each, for
tests/support/random_gradients.py.

A maker takes a Builder and returns a term: term(t, y, args) is its part of dy/dt, for y (..., n)
and t that broadcasts against y. The tensors come from ``builder.leaf(name)``, so that a failure
names the place.
"""

from collections import namedtuple
from dataclasses import dataclass
from functools import partial
from types import FunctionType, SimpleNamespace

import torch


def effect(p, t, y):
    """A bounded part of dy/dt that depends on p (scalar or (n,)), on t and on other components of
    y."""
    return 0.6 * torch.sin(p * y.roll(1, -1) + t) + 0.3 * p * torch.cos(y)


@dataclass
class Record:
    """A holder of a tensor that is no module and no container."""

    p: torch.Tensor
    scale: float = 1.0


Pair = namedtuple("Pair", "first second")


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


# Functions and their surroundings.


def closure(b):
    p, factor = b.leaf("closure"), 1.0

    def read(t, y, args):
        return factor * effect(p, t, y)

    def change():
        nonlocal factor
        factor = 2.0

    b.changes.append(("closure, a number bound anew", change))
    return read


def closure_of_closure(b):
    p = b.leaf("closure of a closure")

    def inner(y, t):
        return effect(p, t, y)

    def middle(y, t):
        return inner(y, t)

    return lambda t, y, args: middle(y, t)


def closure_vector(b):
    p = b.leaf("closure, two views", (2,))
    first, second = p[0], p[1]
    return lambda t, y, args: effect(first, t, y) + 0.5 * effect(second, 2 * t, y)


def closure_computed(b):
    p = 0.5 * torch.exp(b.leaf("closure, computed"))
    return lambda t, y, args: effect(p, t, y)


def closure_list(b):
    held = [b.leaf("list in a closure")]
    b.changes.append(
        ("list in a closure, another tensor", lambda: held.__setitem__(0, 2 * held[0]))
    )
    return lambda t, y, args: effect(held[0], t, y)


def closure_dict(b):
    held = {"p": {"q": b.leaf("dict of dicts in a closure")}}
    return lambda t, y, args: effect(held["p"]["q"], t, y)


def closure_object(b):
    held = Record(b.leaf("object in a closure"))
    b.changes.append(("object in a closure, a number", lambda: setattr(held, "scale", 2.0)))
    return lambda t, y, args: held.scale * effect(held.p, t, y)


def closure_start(b):
    """y0 itself, used again by f."""
    start = b.start
    return lambda t, y, args: effect(start.mean(), t, y)


def global_name(b):
    def read(t, y, args):
        return effect(HELD["p"], t, y) + 0.1 * effect(DIRECT, t, y)  # noqa: F821

    names = {
        "HELD": {"p": b.leaf("dict among the globals")},
        "DIRECT": b.leaf("global"),
        "effect": effect,
    }
    b.changes.append(("global, another tensor", lambda: names.update(DIRECT=2 * names["DIRECT"])))
    return FunctionType(read.__code__, names)


def default(b):
    p, q = b.leaf("default of a parameter"), b.leaf("default of a keyword")

    def read(t, y, args, p=p, *, q=q):
        return effect(p, t, y) + effect(q, 2 * t, y)

    return read


def partial_argument(b):
    p, q = b.leaf("argument of a partial"), b.leaf("keyword of a partial")

    def read(p, t, y, args, q):
        return effect(p, t, y) + effect(q, 2 * t, y)

    return partial(partial(read, p), q=q)


def function_attribute(b):
    def read(t, y, args):
        return effect(read.p, t, y)

    read.p = b.leaf("attribute of a function")
    return read


class Callables:
    """Objects that are called, or whose methods are."""

    shared = None

    def __init__(self, p, inner=None):
        self.p, self.inner = p, inner

    @property
    def deep(self):
        return self.inner.one.two[0]

    def method(self, t, y, args):
        return effect(self.p, t, y)

    def of_class(self, t, y, args):
        return effect(self.shared, t, y)

    def __call__(self, t, y, args):
        return effect(self.p, t, y) + effect(self.deep, 2 * t, y)


class Slotted:
    __slots__ = ("p",)

    def __init__(self, p):
        self.p = p

    def __call__(self, t, y, args):
        return effect(self.p, t, y)


def callable_object(b):
    inner = SimpleNamespace(one=SimpleNamespace(two=[b.leaf("attribute of an attribute")]))
    return Callables(b.leaf("attribute of a callable object"), inner)


def bound_method(b):
    own = Callables(b.leaf("bound method"))
    b.changes.append(("attribute bound anew", lambda: setattr(own, "p", 2 * own.p)))
    return own.method


def slots(b):
    return Slotted(b.leaf("slot"))


def class_attribute(b):
    return type("Own", (Callables,), {"shared": b.leaf("class attribute")})(None).of_class


# What f does with its tensors.


def late(b):
    """Used only after some time."""
    p, when = b.leaf("used only late"), b.when()
    if b.rows:
        return lambda t, y, args: torch.where(t > when, effect(p, t, y), torch.zeros_like(y))
    return lambda t, y, args: effect(p, t, y) if float(t.detach()) > when else torch.zeros_like(y)


def middle(b):
    """Used neither at the start nor at the end."""
    p, half = b.leaf("used only in the middle"), 0.5 * b.end
    near = 0.3 * b.end
    b.whens += [half - near, half + near]
    if b.rows:
        return lambda t, y, args: torch.where(
            (t - half).abs() < near, effect(p, t, y), torch.zeros_like(y)
        )
    return lambda t, y, args: (
        effect(p, t, y) if abs(float(t.detach()) - half) < near else torch.zeros_like(y)
    )


def early(b):
    p, q, when = b.leaf("used only early"), b.leaf("used only from then on"), b.when()
    if b.rows:
        return lambda t, y, args: torch.where(t < when, effect(p, t, y), effect(q, t, y))
    return lambda t, y, args: effect(p if float(t.detach()) < when else q, t, y)


def branch(b):
    """Continuous in y, with a tensor of its own on each side."""
    p, q, level = b.leaf("branch above"), b.leaf("branch below"), 0.2
    if b.rows:

        def rows(t, y, args):
            x = y[..., :1] - level
            return torch.where(x > 0, p * x, q * x) + torch.zeros_like(y)

        return rows

    def read(t, y, args):
        x = y[..., :1] - level
        return (p if float(x.detach()) > 0 else q) * x + torch.zeros_like(y)

    return read


def table(b):
    """Piecewise linear in t: each entry is used in a part of the time."""
    p, end = b.leaf("table in t", (4,)), b.end

    def read(t, y, args):
        x = (3 * t / end).clamp(0, 2.999)
        k = x.detach().floor().long()
        return effect(p[k] * (1 + k - x) + p[k + 1] * (x - k), t, y)

    return read


def cached(b):
    """Computed at the first call and kept."""
    held = Record(b.leaf("computed at the first call"))

    def read(t, y, args):
        if not hasattr(held, "made"):
            held.made = 0.5 * torch.exp(held.p)
        return effect(held.made, t, y)

    return read


def custom_function(b):
    p = b.leaf("through a custom Function")
    return lambda t, y, args: effect(Doubled.apply(p), t, y)


def detached(b):
    p, q = b.leaf("detached in f", moved=False), b.leaf("beside a detached one")
    return lambda t, y, args: effect(p.detach() * q, t, y)


def in_place(b):
    p = b.leaf("in a result that is filled in place")

    def read(t, y, args):
        out = torch.zeros_like(y)
        out += effect(p, t, y)
        out[..., 0] *= 0.5
        return out

    return read


def potential(b):
    """f is a gradient itself."""
    p = b.leaf("inside a gradient that f takes")

    def read(t, y, args):
        with torch.enable_grad():
            x = y if y.requires_grad else y.detach().requires_grad_()
            energy = (effect(p, t, x) ** 2).sum()
            return -torch.autograd.grad(energy, x, create_graph=True)[0]

    return read


def single_precision(b):
    p = b.leaf("leaf of float32", dtype=torch.float32)
    return lambda t, y, args: effect(p.double(), t, y)


def unused(b):
    held = [b.leaf("never used", moved=False)]
    p = b.leaf("beside an unused one")
    return lambda t, y, args: effect(p, t, y) + 0 * len(held)
