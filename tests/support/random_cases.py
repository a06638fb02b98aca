"""Random vector fields and solves, each made again from its number: a Plan says what it is made of,
a Built is made of it."""

import random
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from pynode import Event, PresetTimes, SplitField
from tests.support import random_args, random_modules, random_terms
from tests.support.cases import EXPLICIT, IMPLICIT, ONE_STEP


def makers(module):
    """The functions of a module that make a term of a Builder b, by name."""
    found = {
        name: f
        for name, f in vars(module).items()
        if getattr(f, "__module__", "") == module.__name__
    }
    return {
        name: f
        for name, f in found.items()
        if getattr(f, "__code__", None) and f.__code__.co_varnames[:1] == ("b",)
    }


TERMS = {**makers(random_terms), **makers(random_modules), **makers(random_args)}
# Those that are not smooth in t or y: no conditions of events, and not for a solve backwards
# without jumps.
SWITCHING = ("late", "middle", "early", "branch", "switched_modules", "table", "arg_late")
SMOOTH = tuple(name for name in TERMS if name not in SWITCHING)
CARRIERS = (
    "cells",
    "list",
    "module",
    "hiding module",
    "object",
    "method",
    "partial",
    "wrapped",
    "split",
)
STRUCTURES = ("flat", "matrix", "tuple", "dict", "nested")
FAMILIES = ("explicit", "implicit", "batched", "events", "batched events", "continuous")
BATCHED = ("Tsit5", "Vern7", "Rodas5P", "Kvaerno5", "KenCarp4", "FBDF", "QNDF")
CONTINUOUS = (
    "Tsit5",
    "Vern7",
    "DP8",
    "Rodas5P",
    "Kvaerno5",
    "RadauIIA5",
    "RadauIIA9",
    "FBDF",
    "QNDF",
)
BDFS = ("FBDF", "QNDF")
REVERSE = ("gauss", "gausskronrod", "quadrature", "interpolating", "backsolve")
EVENTS = ("terminal", "reset", "preset", "jump")
LOOSE = {
    "Euler": 1e-2,
    "ImplicitEuler": 1e-2,
    "Heun": 1e-3,
    "Midpoint": 1e-3,
    "RKC": 1e-3,
    "ABDF2": 1e-3,
}


@dataclass(frozen=True)
class Plan:
    """What a case is made of. condition, kick: the terms in the condition and the reset of its
    event."""

    seed: int
    family: str
    terms: tuple
    carrier: str = "cells"
    structure: str = "flat"
    start: str = "leaf"
    size: int = 3
    rows: int = 0
    span: tuple = (0.0, 1.0)
    times: str = "numbers"
    method: str = "Tsit5"
    rtol: float = 1e-6
    adjoint: str = "discrete"
    step_size: float | None = None
    max_step: float | None = None
    checkpoints: int | None = None
    dense: bool = False
    jumps: bool = False
    event: str | None = None
    condition: str = "closure"
    kick: str = "closure"


def plan(family, seed):
    """The Plan of this number."""
    r = random.Random(f"{family} {seed}")
    batched, continuous = family.startswith("batched"), family == "continuous"
    if batched:
        method = r.choice(BATCHED)
    elif continuous:
        method = r.choice(CONTINUOUS)
    else:
        method = r.choice(
            {"explicit": EXPLICIT, "implicit": IMPLICIT}.get(family, EXPLICIT + IMPLICIT)
        )
    rtol = 1e-6 if continuous or batched else LOOSE.get(method, r.choice((1e-3, 1e-4)))
    fixed = not continuous and r.random() < (0.6 if batched else 0.3)
    if fixed and batched:
        method = r.choice(
            [
                name
                for name in ONE_STEP
                if name not in ("RadauIIA3", "RadauIIA5", "RadauIIA9", "RKC")
            ]
        )
    fixed = fixed and method in ONE_STEP
    rtol = 1e-8 if fixed else rtol  # Newton's iteration must not be seen in differences
    # Gradients by BDF, by any adjoint, are off by 100 to 1,000 tolerances (docs/adjoints.md), and
    # converge with them.
    rtol = 1e-8 if continuous and method in BDFS else rtol
    # Rows integrate the sum of a SplitField, a single system may not.
    carrier = r.choice(CARRIERS[:-1] if batched else CARRIERS)
    if carrier == "split":
        method = (
            r.choice(("KenCarp4", "KenCarp47")) if not batched and family != "explicit" else method
        )
    adjoint = "discrete"
    if continuous:
        adjoint = r.choice(REVERSE if method in EXPLICIT else REVERSE[:-1])
    elif family in ("explicit", "implicit"):
        adjoint = r.choice(("discrete", "discrete", "discrete", "forward"))
    structure = r.choice(STRUCTURES)
    end = r.choice((0.5, 0.8, 1.0))
    # A solve backwards sees kinks at times that nobody tells it.
    allowed = sorted(set(TERMS) - {"branch", "table"} if continuous else TERMS)
    terms = tuple(r.sample(allowed, r.choice((1, 2, 2, 3))))
    jumps = r.random() < 0.3 or (not fixed and (continuous or batched))
    sizes = (2, 4) if batched or structure == "matrix" else (2, 3)
    moving = ("numbers", "tensor", "leaf", "leaf by row" if batched else "leaf")
    return Plan(
        seed,
        family,
        terms,
        carrier,
        structure,
        r.choice(("leaf", "leaf", "computed", "constant")),
        size=r.choice(sizes),
        rows=3 if batched else 0,
        times=r.choice(moving),
        method=method,
        rtol=rtol,
        adjoint=adjoint,
        span=(0.0, end) if r.random() < 0.7 or "events" in family else (end, 0.0),
        step_size=0.0625 if fixed else None,
        max_step=0.1 if not fixed and r.random() < 0.2 else None,
        jumps=jumps,
        checkpoints=r.choice((1, 3))
        if adjoint == "discrete" and not batched and r.random() < 0.3
        else None,
        dense=not batched and r.random() < 0.3,
        event=r.choice(EVENTS) if "events" in family else None,
        condition=r.choice(SMOOTH),
        kick=r.choice(SMOOTH),
    )


def pack(structure, flat):
    """(..., n) in a structure of states."""
    first, rest = flat[..., :1], flat[..., 1:]
    return {
        "flat": lambda: flat,
        "matrix": lambda: flat.unflatten(-1, (2, -1)),
        "tuple": lambda: (first, rest),
        "dict": lambda: {"v": rest, "u": first},
        "nested": lambda: (first, {"v": (rest,)}),
    }[structure]()


def unpack(structure, y):
    """(..., n) from a structure of states."""
    return {
        "flat": lambda: y,
        "matrix": lambda: y.flatten(-2),
        "tuple": lambda: torch.cat(y, -1),
        "dict": lambda: torch.cat((y["u"], y["v"]), -1),
        "nested": lambda: torch.cat((y[0], y[1]["v"][0]), -1),
    }[structure]()


def clock(t):
    """Times that broadcast against (..., n)."""
    return t.reshape(-1, 1) if t.dim() else t


@dataclass
class Built:
    """The tensors of a Plan.

    leaves: by name; shift moves them along a fixed direction, for differences. changes: (name,
    function) of what a user might change between a solve and its gradient.
    """

    plan: Plan
    shift: float = 0.0
    leaves: dict = field(default_factory=dict)
    args: list = field(default_factory=list)
    whens: list = field(default_factory=list)
    changes: list = field(default_factory=list)
    prefix: str = ""

    def __post_init__(self):
        plan = self.plan
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.n, self.rows, self.end = plan.size, plan.rows, max(plan.span)
        shape = (self.rows, self.n) if self.rows else (self.n,)
        self.start = self.leaf("y0", shape) if plan.start == "leaf" else self.constant(shape)
        if plan.start == "computed":
            self.start = torch.cos(self.leaf("what y0 is computed of", shape))
        parts = [TERMS[name](self) for name in plan.terms]
        self.condition = self.kick = None
        if plan.event in ("terminal", "reset"):
            self.prefix = "condition, "
            self.condition = TERMS[plan.condition](self)
        if plan.event in ("reset", "preset"):
            self.prefix = "reset, "
            self.kick = TERMS[plan.kick](self)
        self.prefix = ""
        self.moment = (
            self.leaf("time of a jump or a dose", (1,)) * 0.4
            if plan.event in ("preset", "jump")
            else None
        )
        if plan.event == "jump":
            moment = float(self.moment.detach())
            parts.append(
                lambda t, y, args: torch.where(
                    t.detach() < moment, -0.8 * y, 0.7 * torch.ones_like(y)
                )
            )
        self.f, self.times = self._carry(parts), self._times()
        self.changes += [
            (name, lambda leaf=leaf: leaf.mul_(1.5)) for name, leaf in self.leaves.items()
        ]

    def _value(self, shape):
        # Multiples of 2**-8 in (0.5, 1.5), so that a shift is exact in float32 too.
        return torch.randint(128, 384, shape, generator=self.generator).double() / 256

    def constant(self, shape=()):
        made = self._value(shape)
        self.changes.append(("a constant", lambda: made.mul_(1.5)))
        return made

    def leaf(self, name, shape=(), dtype=torch.float64, moved=True):
        """A new leaf; moved: whether differences count what it does."""
        value = self._value(shape)
        along = torch.randint(0, 2, shape, generator=self.generator).double() * 2 - 1
        name = self.prefix + name
        while name in self.leaves:
            name += " again"
        self.leaves[name] = (value + self.shift * along * moved).to(dtype).requires_grad_()
        return self.leaves[name]

    def parameter(self, name, shape=()):
        made = self.leaf(name, shape)
        names = [key for key, value in self.leaves.items() if value is made]
        self.leaves[names[0]] = nn.Parameter(made.detach())
        return self.leaves[names[0]]

    def instead(self, old, **found):
        """Other leaves in place of a module's tensor that was given away."""
        self.leaves = {name: leaf for name, leaf in self.leaves.items() if leaf is not old}
        self.leaves.update(
            {self.prefix + name.replace("_", " "): leaf for name, leaf in found.items()}
        )

    def arg(self, value):
        self.args.append(value)
        return len(self.args) - 1

    def when(self):
        """A time at which a term changes."""
        self.whens.append(self.end * (0.3 + 0.4 * float(torch.rand((), generator=self.generator))))
        return self.whens[-1]

    def _carry(self, parts):
        """f(t, y, *args) that holds its terms in the way of the plan's carrier."""
        one, two = parts[0], parts[1] if len(parts) > 1 else lambda t, y, args: 0.1 * y
        three = parts[2] if len(parts) > 2 else lambda t, y, args: -y
        # No function refers to self, which has all leaves in one place.
        terms, structure = [one, two, three, *parts[3:]], self.plan.structure

        def total(terms, t, y, *args):
            t, y = clock(t), unpack(structure, y)
            return pack(structure, sum(term(t, y, args) for term in terms) - 0.8 * y)

        class Module(nn.Module):
            def __init__(self, registered):
                super().__init__()
                self.known = nn.ModuleList(
                    [x for x in terms if isinstance(x, nn.Module)] if registered else []
                )
                self.terms = terms

            def forward(self, t, y, *args):
                return total(self.terms, t, y, *args)

        class Plain:
            def __init__(self):
                self.terms = terms

            def rate(self, t, y, *args):
                return total(self.terms, t, y, *args)

            __call__ = rate

        def cells(t, y, *args):
            t, y = clock(t), unpack(structure, y)
            return pack(
                structure,
                one(t, y, args) + two(t, y, args) + three(t, y, args) + more(t, y, args) - 0.8 * y,
            )

        more = parts[3] if len(parts) > 3 else lambda t, y, args: torch.zeros_like(y)
        module, rest = Module(True), partial(total, terms[1:])
        return {
            "cells": lambda: cells,
            "list": lambda: lambda t, y, *args: total(terms, t, y, *args),
            "module": lambda: module,
            "hiding module": lambda: Module(False),
            "object": Plain,
            "method": lambda: Plain().rate,
            "partial": lambda: partial(total, terms),
            "wrapped": lambda: lambda t, y, *args: module(t, y, *args),
            "split": lambda: SplitField(lambda t, y, *args: total(terms[:1], t, y, *args), rest),
        }[self.plan.carrier]()

    def _times(self):
        a, b = self.plan.span
        values = [a, a + 0.37 * (b - a), a + 0.81 * (b - a), b]
        if self.plan.times == "numbers":
            return values
        times = torch.tensor(values, dtype=torch.float64)
        if self.plan.times == "tensor":
            return times
        # Not moved for differences, in which the last step would change its size.
        stretch = self.leaf(
            "output times", (self.rows,) if "row" in self.plan.times else (), moved=False
        )
        return times.unsqueeze(-1) * stretch if stretch.dim() else times * stretch

    def options(self):
        plan = self.plan
        found = {
            "method": plan.method,
            "rtol": plan.rtol,
            "atol": 1e-2 * plan.rtol,
            "step_size": plan.step_size,
        }
        found.update(
            {"max_step": plan.max_step} if plan.max_step else {}, dense=plan.dense and not self.rows
        )
        jumps = sorted(self.whens, reverse=plan.span[1] < plan.span[0]) if plan.jumps else []
        if plan.event == "jump":
            jumps = torch.cat((self.moment, torch.tensor(jumps, dtype=torch.float64)))
        found["jumps"] = jumps
        found["events"] = self._events()
        return found

    def _events(self):
        kind, kick, condition, structure = (
            self.plan.event,
            self.kick,
            self.condition,
            self.plan.structure,
        )

        def reset(t, y, *args):
            t, y = clock(t), unpack(structure, y)
            # The first component stays, so that the condition does.
            return pack(
                structure, torch.cat((y[..., :1], (0.9 * y + 0.3 * kick(t, y, args))[..., 1:]), -1)
            )

        if kind == "preset":
            return [PresetTimes(self.moment, reset)]
        if condition is None:
            return []
        level = 0.5 * self.end

        def crossing(t, y, *args):
            t, y = clock(t), unpack(structure, y)
            return (t + 0.1 * condition(t, y[..., :1].expand(y.shape), args)).mean(
                -1, keepdim=True
            ) - level

        return [
            Event(crossing, terminal=True) if kind == "terminal" else Event(crossing, reset=reset)
        ]
