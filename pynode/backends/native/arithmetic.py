"""Sums and norms of vectors, in the loops of the native engine."""

from __future__ import annotations

import math

import numpy as np


def copy(source: np.ndarray, target: np.ndarray) -> None:
    """The first n numbers of target = source, (n,)."""
    for k in range(len(source)):
        target[k] = source[k]


def clear(target: np.ndarray) -> None:
    """target = 0, (n,)."""
    for k in range(len(target)):
        target[k] = 0.0


def add(target: np.ndarray, weight: float, vector: np.ndarray) -> None:
    """target += weight vector, (n,)."""
    if weight != 0.0:
        for i in range(len(target)):
            target[i] += weight * vector[i]


def combine(
    target: np.ndarray, h: float, coefficients: np.ndarray, i: int, vectors: np.ndarray
) -> None:
    """target += h sum_j coefficients[i, j] vectors[j], (n,). Vectors with a zero are not read."""
    for j in range(coefficients.shape[1]):
        c = coefficients[i, j]
        if c != 0.0:
            c *= h
            for k in range(len(target)):
                target[k] += c * vectors[j, k]


def interpolate(
    target: np.ndarray, scale: float, dense: np.ndarray, theta: float, vectors: np.ndarray
) -> None:
    """target += scale sum_j vectors[j] sum_m dense[j, m] theta^(m+1), (n,)."""
    for j in range(dense.shape[0]):
        weight = 0.0
        for m in range(dense.shape[1] - 1, -1, -1):
            weight = (weight + dense[j, m]) * theta
        weight *= scale
        if weight != 0.0:
            for k in range(len(target)):
                target[k] += weight * vectors[j, k]


def interpolate_slope(
    target: np.ndarray, scale: float, dense: np.ndarray, theta: float, vectors: np.ndarray
) -> None:
    """The derivative of ``interpolate`` in theta."""
    for j in range(dense.shape[0]):
        weight = 0.0
        for m in range(dense.shape[1] - 1, -1, -1):
            weight = weight * theta + (m + 1) * dense[j, m]
        weight *= scale
        if weight != 0.0:
            for k in range(len(target)):
                target[k] += weight * vectors[j, k]


def error_ratio(
    error: np.ndarray, y: np.ndarray, y1: np.ndarray, atol: np.ndarray, rtol: float
) -> float:
    """Root mean square of error / (atol + rtol max(|y|, |y1|)). NaN if y1 has a NaN
    (core/norm.py)."""
    total = 0.0
    for k in range(len(error)):
        size = abs(y[k])
        if not size >= abs(y1[k]):
            size = abs(y1[k])
        scaled = error[k] / (atol[k] + rtol * size)
        total += scaled * scaled
    return math.sqrt(total / len(error))


def finite(values: np.ndarray, count: int) -> bool:
    """Whether the first values are all finite."""
    total = 0.0
    for k in range(count):
        total += values[k] * 0.0
    return total == 0.0
