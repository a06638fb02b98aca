"""Counts of the work that a solve and its gradient took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass


@dataclass(repr=False)
class Stats:
    """Forward: evaluations of f, Jacobians, factorisations, linear solves, steps; ``backward_*``:
    those of the gradient.

    A batched evaluation of f counts as many evaluations as it has rows; a Jacobian counts once, in
    njac only. switches counts the changes between the methods of an automatic pair. njvp counts the
    Jacobian-vector products of matrix-free solves; those of sparse Jacobians belong to njac.
    backward_nfe counts the evaluations that products of the Jacobian with vectors need, those of
    Jacobians aside; backward_nvjp and backward_njvp count vector-Jacobian and Jacobian-vector
    products of f; backward_steps the steps that were taken again; backward_accepted and
    backward_rejected the steps of a reverse solve, none for the discrete adjoint.
    backward_quadrature: estimate of the relative error of the parameters' quadrature, of adjoints
    that make one. backward_drift: of BacksolveAdjoint, how far the states went astray on the way
    back, in units of the tolerances.
    """

    guard = None  # a limits.Guard while a solve with limits runs

    nfe: int = 0
    njac: int = 0
    nlu: int = 0
    nsolve: int = 0
    njvp: int = 0
    accepted: int = 0
    rejected: int = 0
    newton_failures: int = 0
    switches: int = 0
    backward_nfe: int = 0
    backward_nvjp: int = 0
    backward_njvp: int = 0
    backward_njac: int = 0
    backward_nlu: int = 0
    backward_nsolve: int = 0
    backward_steps: int = 0
    backward_accepted: int = 0
    backward_rejected: int = 0
    backward_quadrature: float = 0.0
    backward_drift: float = 0.0

    def __repr__(self) -> str:
        """Those that are not zero, first the forward ones."""
        return (
            "Stats("
            + ", ".join(f"{name}={value}" for name, value in self.as_dict().items() if value)
            + ")"
        )

    def as_dict(self) -> dict:
        return asdict(self)

    @contextmanager
    def of_gradient(self) -> Iterator[None]:
        """What is counted inside is work of the gradient, whatever it is called there."""
        before = self.as_dict()
        try:
            yield
        finally:
            for name, value in before.items():
                backward = f"backward_{name}"
                if backward in before:
                    setattr(self, backward, getattr(self, backward) + getattr(self, name) - value)
                if not name.startswith("backward_"):
                    setattr(self, name, value)
