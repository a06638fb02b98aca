"""Data sets of ``benchmarks.learning`` that were made after the defaults were chosen.

Their generator has another seed. The noise is normal unless a set counts.
"""

from __future__ import annotations

import torch

from .learning_sets import Runs, Set, even, integrated, of_problem, vanderpol

REAL = torch.float64


def of_field(f, starts, t):
    """A maker of trajectories of dy/dt = f(t, y) from several starts, at the times t, (T,)."""
    return lambda generator: [(t, integrated(f, start, t)) for start in starts]


def stacked(*parts: torch.Tensor) -> torch.Tensor:
    """The components of a state."""
    return torch.stack(parts, -1)


def uniform(generator, low: float, high: float, *shape: int) -> torch.Tensor:
    """Uniform random numbers."""
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=REAL)


def irregular(generator, last: float, count: int) -> torch.Tensor:
    """Times from 0 to last, of which those between are random."""
    inner = uniform(generator, 0.0, last, count - 2).sort().values
    return torch.cat((torch.zeros(1, dtype=REAL), inner, torch.tensor([last], dtype=REAL)))


# What can be learned.


def predators(t, y):
    """Lotka and Volterra, with a slow predator."""
    prey, hunter = y.unbind(-1)
    return stacked(1.1 * prey - 0.4 * prey * hunter, 0.1 * prey * hunter - 0.4 * hunter)


def fitzhugh(t, y):
    """FitzHugh and Nagumo, Biophys. J. 1 (1961), with a constant current."""
    v, w = y.unbind(-1)
    return stacked(v - v**3 / 3 - w + 0.5, 0.08 * (v + 0.7 - 0.8 * w))


def sir(t, y):
    """SIR with counts of people."""
    s, i, _ = y.unbind(-1)
    new = 0.5 * s * i / 1000
    return stacked(-new, new - 0.15 * i, 0.15 * i)


def seir(t, y):
    """SEIR in fractions of the population."""
    s, e, i, _ = y.unbind(-1)
    new = 0.7 * s * i
    return stacked(-new, new - 0.3 * e, 0.3 * e - 0.2 * i, 0.2 * i)


def lorenz(t, y):
    """Lorenz, J. Atmos. Sci. 20 (1963)."""
    a, b, c = y.unbind(-1)
    return stacked(10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c)


def brusselator(t, y):
    """The Brusselator with A = 1, B = 2.5."""
    x, z = y.unbind(-1)
    return stacked(1 + x * x * z - 3.5 * x, 2.5 * x - x * x * z)


def duffing(t, y):
    """A damped particle in two wells."""
    x, v = y.unbind(-1)
    return stacked(v, x - x**3 - 0.15 * v)


def driven_pendulum(t, y):
    """A damped pendulum; a periodic torque and its derivative are states of the table."""
    angle, speed, torque, other = y.unbind(-1)
    return stacked(speed, torque - 0.2 * speed - torch.sin(angle), 0.7 * other, -0.7 * torque)


def mechanism(t, y):
    """The full mechanism of Michaelis and Menten: S + E <-> C -> E + P."""
    s, e, c, _ = y.unbind(-1)
    bound = 4.0 * s * e - 1.0 * c
    made = 1.5 * c
    return stacked(-bound, made - bound, bound - made, made)


def enzymes(generator) -> Runs:
    """Ten amounts of substrate."""
    t = even(0, 8, 20)
    starts = uniform(generator, 0.5, 3.0, 10).tolist()
    return [(t, integrated(mechanism, [s, 1.0, 0.0, 0.0], t)) for s in starts]


def oral(t, y):
    """An oral dose: gut, blood, tissue."""
    gut, blood, tissue = y.unbind(-1)
    return stacked(-1.4 * gut, 1.4 * gut - 0.7 * blood + 0.2 * tissue, 0.4 * blood - 0.2 * tissue)


def patients(generator) -> Runs:
    """20 patients with different doses, and samples at times of their own."""
    runs = []
    for dose in uniform(generator, 1.0, 5.0, 20).tolist():
        t = irregular(generator, 16.0, 12)
        runs.append((t, integrated(oral, [dose, 0.0, 0.0], t)))
    return runs


def linear(seed: int):
    """A maker of a stable linear system of six states with three pairs of complex eigenvalues,
    whose rates span a decade."""

    def make(generator) -> Runs:
        own = torch.Generator().manual_seed(seed)
        rates = 10 ** uniform(own, -0.7, 0.3, 3)
        turns = rates * uniform(own, 0.5, 3.0, 3)
        blocks = [
            torch.tensor([[-a, -b], [b, -a]], dtype=REAL)
            for a, b in zip(rates.tolist(), turns.tolist(), strict=True)
        ]
        basis = torch.randn(6, 6, generator=own, dtype=REAL)
        matrix = basis @ torch.block_diag(*blocks) @ torch.linalg.inv(basis)
        t = even(0, 8, 100)
        flow = torch.linalg.matrix_exp(matrix * t[:, None, None])
        return [(t, flow @ torch.randn(6, generator=own, dtype=REAL))]

    return make


def robertson(generator) -> Runs:
    """Robertson's reaction at times with equal ratios."""

    def f(t, y):
        a, b, c = y.unbind(-1)
        first = 0.04 * a
        second = 1e4 * b * c
        third = 3e7 * b * b
        return stacked(second - first, first - second - third, third)

    t = torch.cat((torch.zeros(1, dtype=REAL), torch.logspace(-5, 4, 55, dtype=REAL)))
    return [(t, integrated(f, [1.0, 0.0, 0.0], t))]


def selkov(t, y):
    """Sel'kov's glycolysis with other constants than in ``learning_sets``."""
    x, z = y.unbind(-1)
    flow = 0.1 * z + x * x * z
    return stacked(flow - x, 0.5 - flow)


def goodwin(t, y):
    """Goodwin's oscillator, Adv. Enzyme Regul. 3 (1965), with the exponent 12."""
    x, made, end = y.unbind(-1)
    return stacked(1 / (1 + end**12) - 0.5 * x, x - 0.5 * made, made - 0.5 * end)


def logistic(generator) -> Runs:
    """Logistic growth, three cultures from equal starts."""

    def f(t, y):
        return 0.8 * y * (1 - y / 10)

    t = even(0, 12, 25)
    return [(t, integrated(f, [0.3], t)) for _ in range(3)]


def cooling(t, y):
    """A cup of coffee."""
    return -0.08 * (y - 21.0)


def reactor(generator) -> Runs:
    """An exothermic reaction in a cooled vessel: amounts of 1e-9 mol/l, temperatures of 1e3 K."""

    def f(t, y):
        nanomoles, kelvin = y.unbind(-1)
        rate = nanomoles * 0.4 * torch.exp(3000 * (1 / 950 - 1 / kelvin))
        return stacked(-rate, 120 * rate - 0.3 * (kelvin - 950))

    t = even(0, 15, 80)
    return [(t, integrated(f, [1.0, 950.0], t) * torch.tensor([1e-9, 1.0], dtype=REAL))]


def repressilator(t, y):
    """Three genes that repress each other; Elowitz & Leibler, Nature 403 (2000), without the
    messengers."""
    a, b, c = y.unbind(-1)
    return stacked(10 / (1 + c**4) - a, 10 / (1 + a**4) - b, 10 / (1 + b**4) - c)


def rigid_body(t, y):
    """Euler's equations of a rigid body."""
    a, b, c = y.unbind(-1)
    return stacked(-2 * b * c, 1.25 * a * c, -0.5 * a * b)


def chain(generator) -> Runs:
    """A -> B -> C -> D with rates over four decades."""

    def f(t, y):
        a, b, c, _ = y.unbind(-1)
        return stacked(-100 * a, 100 * a - b, b - 0.01 * c, 0.01 * c)

    t = torch.cat((torch.zeros(1, dtype=REAL), torch.logspace(-3, 3, 60, dtype=REAL)))
    return [(t, integrated(f, [1.0, 0.0, 0.0, 0.0], t))]


def random_times(f, start, last: float, count: int):
    """A maker of observations at random times."""

    def make(generator) -> Runs:
        t = irregular(generator, last, count)
        return [(t, integrated(f, start, t))]

    return make


def torque(generator) -> Runs:
    """The driven pendulum with its torque as an input."""
    t = even(0, 30, 150)
    return [(t, integrated(driven_pendulum, [0.6, 0.0, 0.0, 0.8], t)[:, :3])]


def fitzhugh_fast(t, y):
    """FitzHugh and Nagumo with a slow variable a hundred times slower than the fast one."""
    v, w = y.unbind(-1)
    return stacked(v - v**3 / 3 - w, 0.01 * (v + 0.5))


def roessler(t, y):
    """Roessler, Phys. Lett. A 57 (1976)."""
    a, b, c = y.unbind(-1)
    return stacked(-b - c, a + 0.2 * b, 0.2 + c * (a - 5.7))


def toggle(generator) -> Runs:
    """Two genes that switch each other off; Gardner et al., Nature 403 (2000)."""

    def f(t, y):
        a, b = y.unbind(-1)
        return stacked(4 / (1 + b**2.5) - a, 4 / (1 + a**2.5) - b)

    t = even(0, 10, 30)
    starts = uniform(generator, 0.0, 4.0, 6, 2).tolist()
    return [(t, integrated(f, start, t)) for start in starts]


def many_enzymes(generator) -> Runs:
    """Thirty amounts of substrate, each observed often."""
    t = even(0, 8, 60)
    starts = uniform(generator, 0.5, 3.0, 30).tolist()
    return [(t, integrated(mechanism, [s, 1.0, 0.0, 0.0], t)) for s in starts]


def cascade(t, y):
    """Ten pools, one below the other."""
    above = torch.cat((torch.zeros_like(y[..., :1]), y[..., :-1]), -1)
    return 0.9 * above - 0.9 * y


def waves(generator) -> Runs:
    """Two trajectories of one coordinate of an oscillation, which start alike and part."""
    t = even(0, 6, 60)
    return [(t, 2 + torch.sin(t)[:, None]), (t, 2 - torch.sin(t)[:, None])]


# What cannot.


def forced(generator) -> Runs:
    """An oscillator whose force is not in the table, with a rising frequency."""

    def f(t, y):
        x, v = y.unbind(-1)
        force = torch.cos(torch.as_tensor(0.8 * t + 0.05 * t * t, dtype=y.dtype))
        return stacked(v, force - x - 0.2 * v)

    t = even(0, 25, 150)
    return [(t, integrated(f, [0.5, 0.0], t))]


def random_walk(generator) -> Runs:
    """Two sums of random steps."""
    steps = torch.randn(100, 2, generator=generator, dtype=REAL)
    return [(even(0, 10, 100), steps.cumsum(0))]


def constant(generator) -> Runs:
    """A constant, to which noise is added."""
    return [(even(0, 10, 60), 5.0 + 0.1 * torch.randn(60, 1, generator=generator, dtype=REAL))]


def trend(generator) -> Runs:
    """White noise and a slow trend."""
    t = even(0, 10, 80)
    noise = torch.randn(80, 2, generator=generator, dtype=REAL)
    return [(t, 0.15 * t[:, None] + noise)]


def outliers(generator) -> Runs:
    """White noise with heavy tails: the quotients of normal numbers."""
    first = torch.randn(90, 2, generator=generator, dtype=REAL)
    second = torch.randn(90, 2, generator=generator, dtype=REAL)
    return [(even(0, 9, 90), first / (0.3 + second.abs()))]


def five_points(generator) -> Runs:
    """Five points of a decay."""
    t = even(0, 5, 5)
    return [(t, torch.exp(-t)[:, None])]


def partings(generator) -> Runs:
    """Two trajectories with the same start, of which one rises and one falls."""
    t = even(0, 4, 40)
    return [(t, 1 + torch.tanh(t)[:, None]), (t, 1 - torch.tanh(t)[:, None])]


def shuffled(generator) -> Runs:
    """The rows of an oscillation in random order, at the times of others."""
    t, y = of_problem("lotka_volterra", count=80)(generator)[0]
    return [(t, y[torch.randperm(80, generator=generator)])]


def chaos_unseen(generator) -> Runs:
    """One state of three of Lorenz's system."""
    t = even(0, 15, 300)
    return [(t, integrated(lorenz, [1.0, 1.0, 20.0], t)[:, :1])]


UNSEEN = {
    "predators_10": Set(
        of_field(predators, ([10.0, 5.0], [4.0, 2.0]), even(0, 30, 70)), noise=0.10
    ),
    "fitzhugh": Set(of_field(fitzhugh, ([-1.0, 1.0],), even(0, 120, 200)), noise=0.03),
    "sir_counts": Set(of_field(sir, ([990.0, 10.0, 0.0],), even(0, 60, 61)), counts=True),
    "seir": Set(of_field(seir, ([0.98, 0.0, 0.02, 0.0],), even(0, 70, 36)), noise=0.02),
    "lorenz_short": Set(of_field(lorenz, ([1.0, 1.0, 20.0],), even(0, 3, 150))),
    "brusselator": Set(of_field(brusselator, ([1.2, 3.0],), even(0, 25, 150)), noise=0.03),
    "duffing": Set(of_field(duffing, ([1.6, 0.0], [-0.5, 1.0]), even(0, 20, 90)), noise=0.02),
    "driven_pendulum": Set(
        of_field(driven_pendulum, ([0.6, 0.0, 0.0, 0.8],), even(0, 30, 150)), noise=0.03
    ),
    "mechanism": Set(enzymes, noise=0.05),
    "oral_patients": Set(patients, noise=0.05),
    "linear_101": Set(linear(101)),
    "linear_102": Set(linear(102)),
    "linear_103": Set(linear(103)),
    "linear_104": Set(linear(104), noise=0.01),
    "linear_105": Set(linear(105), noise=0.01),
    "robertson": Set(robertson),
    "hires_noisy": Set(of_problem("hires", count=150), noise=0.01),
    "vanderpol_5_noisy": Set(vanderpol(5.0, 30.0, 240), noise=0.03),
    "vanderpol_20": Set(vanderpol(20.0, 80.0, 300)),
    "selkov_8": Set(of_field(selkov, ([0.5, 1.5],), even(0, 50, 150)), noise=0.08),
    "goodwin": Set(of_field(goodwin, ([0.1, 0.2, 2.5],), even(0, 60, 120)), noise=0.02),
    "logistic": Set(logistic, noise=0.05),
    "cooling": Set(of_field(cooling, ([90.0],), even(0, 45, 30)), noise=0.01),
    "missing_20": Set(
        of_field(predators, ([6.0, 3.0],), even(0, 25, 100)), noise=0.03, missing=0.2
    ),
    "irregular": Set(random_times(duffing, [-1.5, 0.5], 15.0, 100), noise=0.03),
    "reactor": Set(reactor, noise=0.01),
    "repressilator": Set(of_field(repressilator, ([1.0, 2.0, 3.0],), even(0, 25, 150)), noise=0.02),
    "rigid_body": Set(of_field(rigid_body, ([1.0, 0.0, 0.9],), even(0, 12, 100))),
    "chain": Set(chain, noise=0.02),
    "dense": Set(of_field(predators, ([8.0, 2.0],), even(0, 40, 1200)), noise=0.02),
    "sparse": Set(of_field(predators, ([8.0, 2.0],), even(0, 22, 28)), noise=0.02),
    "loud": Set(of_problem("spiral", count=300), noise=0.15),
    "fitzhugh_fast": Set(of_field(fitzhugh_fast, ([-1.0, 0.3],), even(0, 250, 250))),
    "roessler": Set(of_field(roessler, ([1.0, 1.0, 0.0],), even(0, 35, 350))),
    "toggle": Set(toggle, noise=0.03),
    "many_enzymes": Set(many_enzymes, noise=0.03),
    "cascade": Set(of_field(cascade, ([5.0] + [0.0] * 9,), even(0, 20, 80)), noise=0.01),
    "pollution": Set(of_problem("pollution", count=60)),
    "hires_half": Set(of_problem("hires", 160.0, 120)),
    "torque": Set(torque, inputs=("y3",)),
    "forced": Set(forced, noise=0.01, learnable=False),
    "random_walk": Set(random_walk, learnable=False),
    "constant": Set(constant, learnable=False),
    "trend": Set(trend, learnable=False),
    "outliers": Set(outliers, learnable=False),
    "five_points": Set(five_points, noise=0.01, learnable=False),
    "partings": Set(partings, learnable=False),
    "waves": Set(waves, learnable=False),
    "waves_noisy": Set(waves, noise=0.02, learnable=False),
    "shuffled": Set(shuffled, learnable=False),
    "chaos_unseen": Set(chaos_unseen, noise=0.01, learnable=False),
}
