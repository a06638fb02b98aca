"""The negative log-likelihood of measurements with normal errors, its gradient and its Fisher
information."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Errors(NamedTuple):
    """Errors of N values. difference: simulated minus measured, (N,), of logarithms where the
    errors are relative. deviation: the standard deviations, (N,). constant: what does not depend on
    the parameters."""

    difference: Tensor
    deviation: Tensor
    constant: float


def negative_log_likelihood(errors: Errors) -> Tensor:
    """The sum of (difference / deviation)^2 / 2 + log(deviation) + log(2 pi) / 2 over the last
    dimension: 0-d, or (...) for errors (..., N)."""
    scaled = errors.difference / errors.deviation
    size = HALF_LOG_2PI * scaled.shape[-1] + errors.constant
    return 0.5 * (scaled * scaled).sum(-1) + errors.deviation.log().sum(-1) + size


def fisher(
    errors: Errors, of_difference: Tensor, of_deviation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(value, gradient (k,), Fisher information (k, k)) for errors whose derivatives in k
    parameters are of_difference and of_deviation, (N, k).

    The information of a normal density in its mean and its deviation s is 1 / s^2 and 2 / s^2, and
    0 between them (Kay, Fundamentals of Statistical Signal Processing I, sec. 3.9).
    """
    value = negative_log_likelihood(errors)
    of_mean = of_difference / errors.deviation[:, None]
    of_size = of_deviation / errors.deviation[:, None]
    scaled = errors.difference / errors.deviation
    gradient = scaled @ of_mean + (1 - scaled * scaled) @ of_size
    matrix = of_mean.T @ of_mean + 2 * of_size.T @ of_size
    return value, gradient, matrix


def infinite(k: int) -> tuple[Tensor, Tensor, Tensor]:
    """What stands for the value, the gradient and the matrix where the simulation fails."""
    zero = torch.zeros(k, dtype=torch.float64)
    return torch.tensor(math.inf, dtype=torch.float64), zero, torch.zeros(k, k, dtype=zero.dtype)
