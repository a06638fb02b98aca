"""Twenty initial value problems whose nature is known: what ``diagnose`` must find, for its test
and its benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from pynode import problems
from pynode.problems.brusselator import brusselator as make_brusselator

DOUBLE = torch.float64


class Setting(NamedTuple):
    """The arguments of ``solve`` and ``diagnose``. t: (t0, t1)."""

    f: Callable
    y0: torch.Tensor
    t: tuple
    rtol: float = 1e-6
    atol: object = 1e-9


class Case(NamedTuple):
    """make() -> Setting, made anew at each call; labels: what is true of it, and why."""

    name: str
    make: Callable[[], Setting]
    labels: frozenset
    why: str


CASES = []


def case(*labels, why):
    """Enter the function that makes a Setting among the CASES, under its own name."""

    def enter(make):
        CASES.append(Case(make.__name__, make, frozenset(labels), why))
        return make

    return enter


def vector(*values, dtype=DOUBLE):
    return torch.tensor(values, dtype=dtype)


def published(name, **changes) -> Setting:
    """A problem of pynode.problems with its own tolerances."""
    problem = problems.get(name)
    return Setting(problem.field, problem.y0, problem.tspan, problem.rtol, problem.atol)._replace(
        **changes
    )


class Linear(nn.Module):
    """dy/dt = A (y - g(t)) + g'(t), whose slow solution is g: Prothero & Robinson 1974."""

    def __init__(self, matrix, follow=True):
        super().__init__()
        self.register_buffer("matrix", torch.tensor(matrix, dtype=DOUBLE))
        self.follow = follow

    def forward(self, t, y):
        if not self.follow:
            return self.matrix @ y
        return self.matrix @ (y - torch.sin(t)) + torch.cos(t)


@case("stiff", why="a decay of 1e5 beside a solution that moves in units of 1")
def prothero_robinson():
    return Setting(Linear([[-1e5, 1e3], [0.0, -1.0]]), vector(1.0, 0.5), (0.0, 10.0))


@case("stiff", why="diffusion on 80 points: eigenvalues from -10 to -26,000")
def heat():
    n = 80

    def f(t, y):
        edge = torch.zeros(1, dtype=y.dtype)
        padded = torch.cat((edge, y, edge))
        return (padded[2:] - 2 * y + padded[:-2]) * (n + 1) ** 2 + torch.sin(t)

    return Setting(
        f, torch.sin(math.pi * torch.arange(1, n + 1, dtype=DOUBLE) / (n + 1)), (0.0, 2.0)
    )


@case(
    "stiff",
    "oscillatory",
    why="a hidden damped mode of 1e4 radians, and a solution that moves in units of 1",
)
def stiff_oscillator():
    return Setting(Linear([[-2e3, 1e4], [-1e4, -2e3]]), vector(0.0, 0.0), (0.0, 5.0))


@case("oscillatory", why="thirty swings that lose 1 % each")
def damped_oscillator():
    return Setting(
        Linear([[0.0, 20.0], [-20.0, -0.06]], follow=False),
        vector(1.0, 0.0),
        (0.0, 10.0),
        1e-5,
        1e-8,
    )


@case(why="three swings of a limit cycle without fast scales")
def mild_vanderpol():
    problem = problems.get("vanderpol")
    with torch.no_grad():
        problem.field.k.fill_(1.0)
    return Setting(problem.field, problem.y0, (0.0, 20.0))


@case("stiff", why="mu = 1000")
def vanderpol():
    return published("vanderpol")


@case("stiff", why="rate constants nine decades apart")
def robertson():
    return published("robertson")


@case(
    "stiff",
    "badly scaled",
    why="the intermediate, 4e-5 at most, is below atol, and drives the reaction",
)
def careless_robertson():
    return published("robertson", atol=1e-4)


@case("badly scaled", why="predator and prey in moles, 1e-12 of them, under the default atol")
def traces():
    def f(t, y):
        x, p = y * 1e12
        return torch.stack((1.5 * x - x * p, x * p - 3 * p)) * 1e-12

    return Setting(f, vector(1e-12, 1e-12), (0.0, 8.0))


@case(
    "stiff",
    "badly scaled",
    why="air pollution; O(1D), of which OH is made, stays four decades below atol",
)
def pollution():
    return published("pollution")


@case("discontinuous", why="an input that steps at t = 1.3 and t = 2.7")
def step_input():
    def f(t, y):
        on = ((t >= 1.3) & (t < 2.7)).to(y.dtype)
        return torch.stack((y[1], 5 * on - y[0] - 0.5 * y[1]))

    return Setting(f, vector(0.0, 0.0), (0.0, 10.0))


@case("discontinuous", why="dry friction: the force changes its sign with the velocity")
def friction():
    def f(t, y):
        return torch.stack((y[1], 1.5 * torch.sin(2 * t) - y[0] - 0.4 * torch.sign(y[1])))

    return Setting(f, vector(2.0, 0.0), (0.0, 8.0))


@case("stiff", "discontinuous", why="heating that is turned down at t = 4, and a fast sensor")
def heating():
    def f(t, y):
        power = torch.where(t < 4.0, 60.0, 10.0)
        return torch.stack((power - 2 * y[0], 2e4 * (y[0] - y[1])))

    return Setting(f, vector(15.0, 15.0), (0.0, 10.0))


@case(
    "unstable",
    "oscillatory",
    why="chaos: differences grow e-fold each unit of time; the orbit turns some 25 times",
)
def lorenz():
    return published("lorenz", rtol=1e-5, atol=1e-7)


@case(why="growth that comes to rest")
def logistic():
    return Setting(lambda t, y: y * (1 - y), vector(0.01), (0.0, 12.0))


@case("blows up", why="y = 1 / (1 - t)")
def blow_up():
    return Setting(lambda t, y: y * y, vector(1.0), (0.0, 2.0))


@case(why="the spiral of neural ODEs, in single precision")
def single_precision():
    problem = problems.get("spiral", dtype=torch.float32)
    return Setting(problem.field, problem.y0, (0.0, 5.0), 1e-4, 1e-5)


@case("oscillatory", why="a slow decay under a forcing of 25 periods")
def fast_forcing():
    def f(t, y):
        return torch.stack((torch.sin(40 * t) - y[0], y[0] - y[1]))

    return Setting(f, vector(0.0, 0.0), (0.0, 4.0), 1e-5, 1e-8)


@case(why="a network with random weights of Glorot's size, 20 states")
def network():
    generator = torch.Generator().manual_seed(3)
    net = nn.Sequential(nn.Linear(20, 50), nn.Tanh(), nn.Linear(50, 20)).to(DOUBLE)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(
                torch.randn(p.shape, generator=generator, dtype=DOUBLE)
                * (2 / sum(p.shape)) ** 0.5
                * (p.dim() > 1)
            )
    y0 = torch.randn(20, generator=generator, dtype=DOUBLE)
    return Setting(lambda t, y: net(y), y0, (0.0, 4.0))


@case(
    "stiff",
    why="reaction and diffusion on 18 x 18 points: 648 states, eigenvalues by Arnoldi's method",
)
def brusselator():
    problem = make_brusselator(size=18)
    with torch.no_grad():
        problem.field.k[2] = 2.0
    return Setting(problem.field, problem.y0, problem.tspan, problem.rtol, problem.atol)
