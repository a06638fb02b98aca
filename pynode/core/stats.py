"""Counts of the work of a solve and its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass


@dataclass(repr=False)
class Stats:
    """Forward: evaluations of f, Jacobians, factorisations, linear solves, steps. ``backward_*``:
    the work of the gradient.

    A batched evaluation of f counts once for each row. A Jacobian counts once, in njac only.
    switches: changes between the methods of an automatic pair. njvp: Jacobian-vector products of
    matrix-free solves; those of sparse Jacobians belong to njac. backward_nfe: evaluations for
    products of the Jacobian with vectors, without those for Jacobians. backward_nvjp,
    backward_njvp: vector-Jacobian and Jacobian-vector products of f. backward_steps: steps that the
    backward pass repeats. backward_accepted, backward_rejected: steps of a reverse solve; zero for
    the discrete adjoint. backward_quadrature: estimated relative error of the quadrature over the
    parameters, for adjoints that have one. backward_drift: for BacksolveAdjoint, the distance of
    the reversed states from the forward ones, in units of the tolerances.
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
        """The counts that are not zero, forward ones first."""
        return (
            "Stats("
            + ", ".join(f"{name}={value}" for name, value in self.as_dict().items() if value)
            + ")"
        )

    def as_dict(self) -> dict:
        """All counts by name."""
        return asdict(self)

    def add(self, other: Stats) -> None:
        """Add the counts of another solve."""
        for name, value in other.as_dict().items():
            setattr(self, name, getattr(self, name) + value)

    @contextmanager
    def of_gradient(self) -> Iterator[None]:
        """A block whose work counts as work of the gradient."""
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
