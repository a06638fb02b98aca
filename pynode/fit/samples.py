"""Samples of the parameters from their posterior density, by pypesto, for arviz."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..core.files import save_text
from .packages import require
from .protocol import estimated
from .result import Estimate

SAMPLERS = ("metropolis", "tempering")
CHAINS = 3  # of parallel tempering


@dataclass(frozen=True)
class Samples:
    """Samples of k parameters in their scales: theta (chains, draws, k), objective (chains, draws).
    The first ``burn_in`` draws are already left out."""

    names: tuple[str, ...]
    theta: np.ndarray
    objective: np.ndarray
    burn_in: int

    def to_arviz(self) -> Any:
        """An arviz.InferenceData. Raises ImportError without arviz."""
        import arviz

        posterior = {name: self.theta[:, :, i] for i, name in enumerate(self.names)}
        return arviz.from_dict(posterior=posterior, sample_stats={"lp": -self.objective})

    def save(self, path: str | PathLike[str]) -> Path:
        """Write chain, draw, objective and parameters as a CSV table."""
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("chain", "draw", "objective", *self.names))
        for chain, (thetas, values) in enumerate(zip(self.theta, self.objective, strict=True)):
            for draw, (theta, value) in enumerate(zip(thetas, values, strict=True)):
                writer.writerow((chain, draw, value, *theta))
        return save_text(path, table.getvalue())


def sample(
    found: Estimate, draws: int = 10_000, *, sampler: str = "metropolis", seed: int = 0
) -> Samples:
    """Sample the density exp(-objective) between the bounds, from the optimum on.

    draws: steps of the chain, with those that are left out: pypesto finds by Geweke's test where
    the chain has settled. sampler: 'metropolis', whose first steps have the covariance of the
    Fisher information, or 'tempering' for densities with several peaks. Both adapt themselves.
    Raises ValueError for an unknown sampler.
    """
    require()
    from pypesto.result import Result
    from pypesto.sample import geweke_test
    from pypesto.sample import sample as run

    from .pypesto_objective import pypesto_problem
    from .tasks import quiet

    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}: choose one of {', '.join(SAMPLERS)}")
    problem = pypesto_problem(found.problem)
    result = Result(problem)
    with _seeded(seed), quiet():
        run(problem, draws, _sampler(sampler, found), x0=_starts(sampler, found), result=result)
        burn_in = int(geweke_test(result))
    traces = result.sample_result
    # The first chain has the temperature 1.
    theta = np.asarray(traces.trace_x)[:1, burn_in:]
    objective = np.asarray(traces.trace_neglogpost)[:1, burn_in:]
    names = tuple(info.name for info in estimated(found.problem))
    return Samples(names, theta, objective, burn_in)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Context with NumPy's global generator, from which pypesto draws, at this seed."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def _sampler(name, found):
    from pypesto.sample import AdaptiveMetropolisSampler, AdaptiveParallelTemperingSampler

    steps = found.information.steps().numpy()
    covariance = steps.T @ steps
    # A parameter at a bound has no step: a small one lets it leave.
    tiny = 1e-6 * max(1e-12, float(np.trace(covariance)) / len(covariance))
    options = {"cov0": covariance + tiny * np.eye(len(covariance)), "show_progress": False}
    inner = AdaptiveMetropolisSampler(options=options)
    if name == "metropolis":
        return inner
    return AdaptiveParallelTemperingSampler(
        internal_sampler=inner, n_chains=CHAINS, options={"show_progress": False}
    )


def _starts(name, found):
    best = found.theta.numpy()
    if name == "metropolis":
        return best
    return [best] * CHAINS
