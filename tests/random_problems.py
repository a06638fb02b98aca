"""Random initial value problems whose solutions are known in closed form, in units of their own: u(s) from s = 0.

Each is y' = rate(s, u, *data), written so that rows with data of their own may be solved together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Problem:
    """data: arrays that rate takes; exact: (T,) -> (T, n); length: the span is (0, length).

    flow: (T,) -> (T, n): a small change of a component at s has grown by flow(t) / flow(s) at t, None
    for no growth; growth: what it may grow by beside that; turns: the length in units in which the
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
        lambda s, u, c: c + 0 * u, (c,), u0, lambda s: u0 + s[:, None] * c, r.choice((1.0, 10.0)),
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
    """u' = A u, A normal, with eigenvalues -damping +- i frequency, and one mode that decays fast where it is hard."""
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

    return Problem(linear, (q @ block @ q.T,), q @ start, exact, length, None, 1.0, turns, max(fast, frequency))


def triangle(r, n, hard):
    """u' = A u, A of two states and not normal: (-a, k; 0, -b)."""
    a, b, k = r.uniform(0.1, 2), decades(r, 2, 5) if hard else r.uniform(3, 20), r.uniform(-20, 20)
    u0, length = np.array((r.uniform(-1, 1), 1.0)), r.choice((1.0, 4.0))

    def exact(s):
        slow, fast = np.exp(-a * s), np.exp(-b * s)
        return np.stack((u0[0] * slow + k / (b - a) * (slow - fast), fast), -1)

    growth = 1 + abs(k) / (b - a)
    return Problem(linear, (np.array(((-a, k), (0.0, -b))),), u0, exact, length, None, growth, 1 + 2 * length, b)


def prothero(r, n, hard):
    """u' = -k (u - cos w s) - w sin w s, Prothero and Robinson's, from the slow solution or beside it."""
    k, w = decades(r, 1, 6) if hard else r.uniform(0.5, 20), uniform(r, 0.5, 3, n)
    beside, length = r.choice((np.zeros(n), uniform(r, -1, 1, n), -np.ones(n))), r.choice((1.0, 5.0))

    def rate(s, u, k, w):
        return -k * (u - torch.cos(w * s)) - w * torch.sin(w * s)

    def exact(s):
        return np.cos(w * s[:, None]) + beside * np.exp(-k * s[:, None])

    return Problem(
        rate, (np.array([k]), w), 1 + beside, exact, length, turns=1 + 3 * length, fastest=k, timed=True
    )


def logistic(r, n, hard):
    """u' = k u (1 - u), from a small number on."""
    k, u0, length = r.uniform(1, 5), np.array([decades(r, -6, 0.3) for _ in range(n)]), r.choice((1.0, 6.0))

    def exact(s):
        return 1 / (1 + (1 / u0 - 1) * np.exp(-k * s[:, None]))

    def flow(s):
        return exact(s) ** 2 * np.exp(-k * s[:, None])

    return Problem(
        lambda s, u, k: k * u * (1 - u), (np.array([k]),), u0, exact, length, flow, turns=1 + k * length,
        fastest=k * (1 + 2 * u0.max()), leaving=True,
    )


def tangent(r, n, hard):
    """u' = k (1 + u^2), Riccati's equation: tan(k s + a), which grows without bound just behind the end."""
    a, length = uniform(r, -1.0, 0.5, n), 1.0
    end = r.uniform(0.6, 1.4)
    k = np.full(n, (end - a.max()) / length)

    def exact(s):
        return np.tan(k * s[:, None] + a)

    def flow(s):
        return 1 + exact(s) ** 2

    return Problem(
        lambda s, u, k: k * (1 + u * u), (k,), np.tan(a), exact, length, flow, turns=5.0,
        fastest=2 * k[0] * math.tan(end),
    )


def reciprocal(r, n, hard):
    """u' = -k u^2: u0 / (1 + k u0 s), which falls from large values at once."""
    u0, k, length = np.array([decades(r, -2, 4 if hard else 1) for _ in range(n)]), r.uniform(0.5, 2), 3.0

    def exact(s):
        return u0 / (1 + k * u0 * s[:, None])

    turns = 1 + math.log1p(k * u0.max() * length)
    return Problem(
        lambda s, u, k: -k * u * u, (np.array([k]),), u0, exact, length, lambda s: exact(s) ** 2, turns=turns,
        fastest=2 * k * u0.max(), leaving=True,
    )


def turning(r, n, hard):
    """u' = w |u|^2 (u2, -u1): a rotation whose frequency depends on the radius."""
    u0, w, turns = uniform(r, -1, 1, 2) + np.array((1.5, 0.0)), r.uniform(1, 3), r.choice((2.0, 12.0))
    frequency = w * float(u0 @ u0)

    def rate(s, u, w):
        return w * (u * u).sum(-1, keepdim=True) * torch.stack((u[..., 1], -u[..., 0]), -1)

    def exact(s):
        c, d = np.cos(frequency * s), np.sin(frequency * s)
        return np.stack((c * u0[0] + d * u0[1], c * u0[1] - d * u0[0]), -1)

    return Problem(rate, (np.array([w]),), u0, exact, turns / frequency, None, 1 + 2 * turns, turns, 3 * frequency)


def kaps(r, n, hard):
    """Kaps' problem, u1 = u2^2 = e^(-2 s), stiff for large k."""
    k = decades(r, 2, 6) if hard else r.uniform(1, 20)

    def rate(s, u, k):
        a, b = u[..., :1], u[..., 1:]
        return torch.cat((-(k + 2) * a + k * b * b, a - b - b * b), -1)

    def exact(s):
        return np.exp(-s[:, None] * np.array((2.0, 1.0)))

    length = r.choice((1.0, 4.0))
    return Problem(rate, (np.array([k]),), np.ones(2), exact, length, None, 3.0, 2 + length, k, leaving=True)


def swinging(r, n, hard):
    """u' = k cos(w s) u: exp(k sin(w s) / w)."""
    w, k, length = r.uniform(0.5, 4), uniform(r, -1, 1, n), r.choice((2.0, 8.0))

    def rate(s, u, w, k):
        return k * torch.cos(w * s) * u

    def exact(s):
        return np.exp(k * np.sin(w * s[:, None]) / w)

    turns = 1 + (1 + w) * length
    return Problem(rate, (np.array([w]), k), np.ones(n), exact, length, exact, turns=turns, timed=True, leaving=True)


def held(r, n, hard):
    """u' = A u + v(s), A symmetric, v constant between knots; at rest until the first one, for some."""
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
        rate, (q * values @ q.T, inputs @ q.T), q @ start, exact, 2.0, turns=10.0, fastest=fast,
        knots=knots[1:], timed=True,
    )


KINDS = {f.__name__: f for f in (
    constant, polynomial, modes, oscillation, triangle, prothero, logistic, tangent, reciprocal, turning,
    kaps, swinging, held,
)}
