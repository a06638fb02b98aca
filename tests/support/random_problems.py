"""Random problems that are not linear and whose solutions are known; KINDS, all by name."""

import math

import numpy as np
import torch

from tests.support.random_linear import (
    Problem,
    constant,
    decades,
    held,
    modes,
    oscillation,
    polynomial,
    prothero,
    swinging,
    triangle,
    uniform,
)


def logistic(r, n, hard):
    """u' = k u (1 - u), from a small number on."""
    k, u0, length = (
        r.uniform(1, 5),
        np.array([decades(r, -6, 0.3) for _ in range(n)]),
        r.choice((1.0, 6.0)),
    )

    def exact(s):
        return 1 / (1 + (1 / u0 - 1) * np.exp(-k * s[:, None]))

    def flow(s):
        return exact(s) ** 2 * np.exp(-k * s[:, None])

    return Problem(
        lambda s, u, k: k * u * (1 - u),
        (np.array([k]),),
        u0,
        exact,
        length,
        flow,
        turns=1 + k * length,
        fastest=k * (1 + 2 * u0.max()),
        leaving=True,
    )


def tangent(r, n, hard):
    """u' = k (1 + u^2), Riccati's: tan(k s + a), which has a pole just behind the end."""
    a, length = uniform(r, -1.0, 0.5, n), 1.0
    end = r.uniform(0.6, 1.4)
    k = np.full(n, (end - a.max()) / length)

    def exact(s):
        return np.tan(k * s[:, None] + a)

    def flow(s):
        return 1 + exact(s) ** 2

    return Problem(
        lambda s, u, k: k * (1 + u * u),
        (k,),
        np.tan(a),
        exact,
        length,
        flow,
        turns=5.0,
        fastest=2 * k[0] * math.tan(end),
    )


def reciprocal(r, n, hard):
    """u' = -k u^2: u0 / (1 + k u0 s), which falls from large values at once."""
    u0, k, length = (
        np.array([decades(r, -2, 4 if hard else 1) for _ in range(n)]),
        r.uniform(0.5, 2),
        3.0,
    )

    def exact(s):
        return u0 / (1 + k * u0 * s[:, None])

    turns = 1 + math.log1p(k * u0.max() * length)
    return Problem(
        lambda s, u, k: -k * u * u,
        (np.array([k]),),
        u0,
        exact,
        length,
        lambda s: exact(s) ** 2,
        turns=turns,
        fastest=2 * k * u0.max(),
        leaving=True,
    )


def turning(r, n, hard):
    """u' = w |u|^2 (u2, -u1): a rotation whose frequency depends on the radius."""
    u0, w, turns = (
        uniform(r, -1, 1, 2) + np.array((1.5, 0.0)),
        r.uniform(1, 3),
        r.choice((2.0, 12.0)),
    )
    frequency = w * float(u0 @ u0)

    def rate(s, u, w):
        return w * (u * u).sum(-1, keepdim=True) * torch.stack((u[..., 1], -u[..., 0]), -1)

    def exact(s):
        c, d = np.cos(frequency * s), np.sin(frequency * s)
        return np.stack((c * u0[0] + d * u0[1], c * u0[1] - d * u0[0]), -1)

    return Problem(
        rate,
        (np.array([w]),),
        u0,
        exact,
        turns / frequency,
        None,
        1 + 2 * turns,
        turns,
        3 * frequency,
    )


def kaps(r, n, hard):
    """Kaps' problem, u1 = u2^2 = e^(-2 s), stiff for large k."""
    k = decades(r, 2, 6) if hard else r.uniform(1, 20)

    def rate(s, u, k):
        a, b = u[..., :1], u[..., 1:]
        return torch.cat((-(k + 2) * a + k * b * b, a - b - b * b), -1)

    def exact(s):
        return np.exp(-s[:, None] * np.array((2.0, 1.0)))

    length = r.choice((1.0, 4.0))
    return Problem(
        rate, (np.array([k]),), np.ones(2), exact, length, None, 3.0, 2 + length, k, leaving=True
    )


KINDS = {
    f.__name__: f
    for f in (
        constant,
        polynomial,
        modes,
        oscillation,
        triangle,
        prothero,
        logistic,
        tangent,
        reciprocal,
        turning,
        kaps,
        swinging,
        held,
    )
}
