"""Random linear problems whose solutions are known in closed form, in units of their own: u(s) from
s = 0.

Each is u' = rate(s, u, *data), written so that rows with data of their own may be solved together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Problem:
    """data: arrays that rate takes; exact: (T,) -> (T, n); length: the span is (0, length).

    flow: (T,) -> (T, n): a small change of a component at s has grown by flow(t) / flow(s) at t,
    None for no growth; growth: what it may grow by beside that; turns: the length in units in which
    solution changes, as local errors add up; fastest: the largest |eigenvalue| of the
    Jacobian; knots: times at which rate jumps; timed: whether rate depends on s; leaving: whether
    no component comes back to zero, or comes near it.
    """

    rate: Callable
    data: tuple
    u0: np.ndarray
    exact: Callable
    length: float
    flow: Callable | None = None
    growth: float = 1.0
    turns: float = 1.0
    fastest: float = 1.0
    knots: tuple = ()
    timed: bool = False
    leaving: bool = False


def uniform(r, low, high, n=None):
    return r.uniform(low, high) if n is None else np.array([r.uniform(low, high) for _ in range(n)])


def decades(r, low, high):
    """A number between 10**low and 10**high, its logarithm even."""
    return 10 ** r.uniform(low, high)


def times(matrix, u):
    return (matrix @ u.unsqueeze(-1)).squeeze(-1)


def rotation(r, n):
    """(n, n), orthogonal."""
    return np.linalg.qr(np.array([[r.gauss(0, 1) for _ in range(n)] for _ in range(n)]))[0]


def constant(r, n, hard):
    """u' = c, also with c = 0."""
    c = np.array([r.choice((0.0, 0.15, r.uniform(-10, 10), decades(r, -6, 3))) for _ in range(n)])
    u0 = r.choice((np.zeros(n), uniform(r, -1, 1, n)))
    return Problem(
        lambda s, u, c: c + 0 * u,
        (c,),
        u0,
        lambda s: u0 + s[:, None] * c,
        r.choice((1.0, 10.0)),
        leaving=not u0.any(),
    )


def polynomial(r, n, hard):
    """u' = p(s), a polynomial for each component."""
    p, length = np.array([uniform(r, -1, 1, r.choice((2, 4))) for _ in range(1)] * n), 2.0
    u0 = r.choice((np.zeros(n), uniform(r, -1, 1, n)))
    powers = np.arange(p.shape[1])

    def rate(s, u, p):
        return sum(p[..., k] * s**k for k in range(p.shape[-1])) + 0 * u

    def exact(s):
        return u0 + (s[:, None, None] ** (powers + 1) * p / (powers + 1)).sum(-1)

    return Problem(rate, (p,), u0, exact, length, turns=2 * length, timed=True)


def modes(r, n, hard):
    """u' = A u, A symmetric; decay at rates that differ much where it is hard."""
    fast = decades(r, 2, 6) if hard else r.uniform(0.5, 30)
    values = np.array([-decades(r, -1, math.log10(fast)) for _ in range(n - 1)] + [-fast])
    values[0] = r.choice((values[0], 0.0, 0.5)) if n > 1 else values[0]
    q, start = rotation(r, n), r.choice((np.ones(n), np.zeros(n), uniform(r, -1, 1, n)))
    matrix, u0, length = q * values @ q.T, q @ start, r.choice((1.0, 5.0))

    def exact(s):
        return (np.exp(s[:, None] * values) * start) @ q.T

    def flow(s):
        return np.exp(s[:, None] * max(0.0, values.max())) * np.ones(n)

    return Problem(linear, (matrix,), u0, exact, length, flow, turns=1 + length, fastest=fast)


def linear(s, u, matrix):
    return times(matrix, u)


def oscillation(r, n, hard):
    """u' = A u, A normal, with eigenvalues -damping +- i frequency, and one that may be fast."""
    frequency, turns = decades(r, 0, 1), r.choice((3.0, 15.0))
    damping = frequency * r.choice((0.0, 0.0, 0.1, 1.0))
    fast = decades(r, 2, 5) if hard else 2.0
    q, block = rotation(r, 3), np.diag((-damping, -damping, -fast))
    block[0, 1], block[1, 0] = frequency, -frequency
    start, length = uniform(r, -1, 1, 3), turns / frequency
    start[2] = r.choice((0.0, start[2]))

    def exact(s):
        c, d, e = np.cos(frequency * s), np.sin(frequency * s), np.exp(-damping * s)
        a, b, last = start
        parts = (e * (a * c + b * d), e * (b * c - a * d), np.exp(-fast * s) * last)
        return np.stack(parts, -1) @ q.T

    return Problem(
        linear, (q @ block @ q.T,), q @ start, exact, length, None, 1.0, turns, max(fast, frequency)
    )


def triangle(r, n, hard):
    """u' = A u, A of two states and not normal: (-a, k; 0, -b)."""
    a, b, k = r.uniform(0.1, 2), decades(r, 2, 5) if hard else r.uniform(3, 20), r.uniform(-20, 20)
    u0, length = np.array((r.uniform(-1, 1), 1.0)), r.choice((1.0, 4.0))

    def exact(s):
        slow, fast = np.exp(-a * s), np.exp(-b * s)
        return np.stack((u0[0] * slow + k / (b - a) * (slow - fast), fast), -1)

    growth = 1 + abs(k) / (b - a)
    return Problem(
        linear,
        (np.array(((-a, k), (0.0, -b))),),
        u0,
        exact,
        length,
        None,
        growth,
        1 + 2 * length,
        b,
    )


def prothero(r, n, hard):
    """u' = -k (u - cos w s) - w sin w s, from the slow solution or beside it."""
    k, w = decades(r, 1, 6) if hard else r.uniform(0.5, 20), uniform(r, 0.5, 3, n)
    beside, length = (
        r.choice((np.zeros(n), uniform(r, -1, 1, n), -np.ones(n))),
        r.choice((1.0, 5.0)),
    )

    def rate(s, u, k, w):
        return -k * (u - torch.cos(w * s)) - w * torch.sin(w * s)

    def exact(s):
        return np.cos(w * s[:, None]) + beside * np.exp(-k * s[:, None])

    return Problem(
        rate,
        (np.array([k]), w),
        1 + beside,
        exact,
        length,
        turns=1 + 3 * length,
        fastest=k,
        timed=True,
    )


def swinging(r, n, hard):
    """u' = k cos(w s) u: exp(k sin(w s) / w)."""
    w, k, length = r.uniform(0.5, 4), uniform(r, -1, 1, n), r.choice((2.0, 8.0))

    def rate(s, u, w, k):
        return k * torch.cos(w * s) * u

    def exact(s):
        return np.exp(k * np.sin(w * s[:, None]) / w)

    turns = 1 + (1 + w) * length
    return Problem(
        rate,
        (np.array([w]), k),
        np.ones(n),
        exact,
        length,
        exact,
        turns=turns,
        timed=True,
        leaving=True,
    )


def held(r, n, hard):
    """u' = A u + v(s), A symmetric, v constant between knots; some are at rest at first."""
    fast, knots = decades(r, 1, 5) if hard else r.uniform(0.5, 20), (0.0, 0.25, 0.5, 0.75, 1.5)
    values = np.array([-decades(r, -1, math.log10(fast) + 0.1) for _ in range(n - 1)] + [-fast])
    values[0] = r.choice((values[0], 0.0)) if n > 1 else values[0]
    q = rotation(r, n)
    inputs = np.array([uniform(r, -1, 1, n) * r.choice((0, 1, 1)) for _ in knots])  # in the modes
    start = r.choice((np.zeros(n), uniform(r, -1, 1, n)))

    def rate(s, u, matrix, v):
        # The last input whose knot has passed; sums of steps, as rows have times of their own.
        total = v[..., 0, :]
        for i in range(1, len(knots)):
            total = total + (s >= knots[i]) * (v[..., i, :] - v[..., i - 1, :])
        return times(matrix, u) + total

    def advance(x, i, d):
        d = d[..., None]
        gain = np.where(values == 0, d, np.expm1(values * d) / np.where(values == 0, 1, values))
        return np.exp(values * d) * x + gain * inputs[i]

    def exact(s):
        x, found = start, np.empty((len(s), n))
        for i, (a, b) in enumerate(zip(knots, (*knots[1:], math.inf))):
            inside = (s >= a) & (s <= b)
            found[inside] = advance(x, i, s[inside] - a)
            x = advance(x, i, np.array(b - a)) if b < math.inf else x
        return found @ q.T

    return Problem(
        rate,
        (q * values @ q.T, inputs @ q.T),
        q @ start,
        exact,
        2.0,
        turns=10.0,
        fastest=fast,
        knots=knots[1:],
        timed=True,
    )
