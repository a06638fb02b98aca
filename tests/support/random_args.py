"""Terms of a vector field whose tensors come through ``args``, as those of random_terms.py.

A maker appends to ``builder.args`` and reads its own place there. With rows, a tensor whose first
dimension is theirs is given row by row; the Builder cuts it where the rows are solved one by one.
"""

from types import SimpleNamespace

import torch
from torch import nn

from tests.support.random_modules import Linear
from tests.support.random_terms import Pair, Record, effect


def arg(b):
    i = b.arg(b.leaf("args"))
    return lambda t, y, args: effect(args[i], t, y)


def arg_vector(b):
    i = b.arg(b.leaf("vector in args", (b.n,)))
    return lambda t, y, args: effect(args[i], t, y)


def arg_computed(b):
    i = b.arg(0.5 * torch.exp(b.leaf("args, computed")))
    return lambda t, y, args: effect(args[i], t, y)


def args_of_one_another(b):
    p = b.leaf("args, one computed from another")
    i, j = b.arg(p), b.arg(0.5 * torch.exp(p))
    return lambda t, y, args: effect(args[i], t, y) + effect(args[j], 2 * t, y)


def arg_twice(b):
    p = b.leaf("twice in args")
    i, j = b.arg(p), b.arg(p)
    return lambda t, y, args: effect(args[i], t, y) + effect(args[j], 2 * t, y)


def arg_and_closure(b):
    p = b.leaf("in args and in a closure")
    i = b.arg(p)
    return lambda t, y, args: effect(args[i], t, y) + effect(p, 2 * t, y)


def arg_unused_but_closed_over(b):
    p = b.leaf("in args, used by a closure alone")
    b.arg(p)
    return lambda t, y, args: effect(p, t, y)


def arg_and_view(b):
    """A tensor in args, and a view of it in a closure."""
    p = b.leaf("in args, a view in a closure", (2,))
    i, view = b.arg(p), p[1]
    return lambda t, y, args: effect(args[i][0], t, y) + effect(view, 2 * t, y)


def arg_and_weight(b):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Linear(b, "in args and in a module")
            self.place = b.arg(self.net.map.bias)

        def forward(self, t, y, args):
            return self.net(t, y) + effect(args[self.place][0], t, y)

    return Both()


def arg_is_start(b):
    """y0, which is an argument too."""
    if b.rows:
        i = b.arg(b.start)
        return lambda t, y, args: effect(args[i].mean(-1, keepdim=True), t, y)
    i = b.arg(b.start)
    return lambda t, y, args: effect(args[i].mean(), t, y)


def arg_dict(b):
    i = b.arg({"rate": b.leaf("dict in args"), "deep": {"er": [b.leaf("list of a dict in args")]}})
    return lambda t, y, args: (
        effect(args[i]["rate"], t, y) + effect(args[i]["deep"]["er"][0], 2 * t, y)
    )


def arg_tuple(b):
    i = b.arg((b.leaf("tuple in args"), 2.0, (b.leaf("tuple of a tuple in args"),)))
    return lambda t, y, args: effect(args[i][0], t, y) + effect(args[i][2][0], args[i][1] * t, y)


def arg_named(b):
    i = b.arg(Pair(b.leaf("named tuple in args"), torch.tensor(2.0, dtype=torch.float64)))
    return lambda t, y, args: effect(args[i].first, args[i].second * t, y)


def arg_record(b):
    i = b.arg(Record(b.leaf("dataclass in args")))
    return lambda t, y, args: args[i].scale * effect(args[i].p, t, y)


def arg_object(b):
    i = b.arg(
        SimpleNamespace(
            inner=SimpleNamespace(p=0.5 * torch.exp(b.leaf("object in args, computed")))
        )
    )
    return lambda t, y, args: effect(args[i].inner.p, t, y)


def arg_module(b):
    i = b.arg(Linear(b, "module in args"))
    return lambda t, y, args: args[i](t, y)


def arg_function(b):
    p = b.leaf("closure of a function in args")
    i = b.arg(lambda t, y: effect(p, t, y))
    return lambda t, y, args: args[i](t, y)


def arg_nested_twice(b):
    p = b.leaf("in args and in a dict in args")
    i, j = b.arg(p), b.arg({"again": p})
    return lambda t, y, args: effect(args[i], t, y) + effect(args[j]["again"], 2 * t, y)


def arg_by_row(b):
    """One value a row; the same value for all where there are no rows."""
    p = b.leaf("args by row", (b.rows, 1) if b.rows else (1,))
    i = b.arg(p)
    return lambda t, y, args: effect(args[i], t, y)


def arg_by_row_computed(b):
    p = 0.5 * torch.exp(b.leaf("args by row, computed", (b.rows, b.n) if b.rows else (b.n,)))
    i = b.arg(p)
    return lambda t, y, args: effect(args[i], t, y)


def arg_late(b):
    i, when = b.arg({"late": b.leaf("dict in args, used only late")}), b.when()
    if b.rows:
        return lambda t, y, args: torch.where(
            t > when, effect(args[i]["late"], t, y), torch.zeros_like(y)
        )
    return lambda t, y, args: (
        effect(args[i]["late"], t, y) if float(t.detach()) > when else torch.zeros_like(y)
    )


def arg_constant(b):
    """Tensors and numbers that need no gradient, between others."""
    i, j, k = b.arg(b.constant()), b.arg(b.leaf("args, between constants")), b.arg(0.5)
    return lambda t, y, args: effect(args[i] * args[j], args[k] * t, y)
