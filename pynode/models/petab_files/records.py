"""What an estimation problem consists of, without the version of its files."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from ...core.parameter_info import ParameterInfo, Scale

STEADY = math.inf
PRE_EQUILIBRATION = -math.inf


@dataclass(frozen=True)
class Observable:
    """What is measured.

    formula, noise: expressions of the model's quantities, of parameters and of the placeholders.
    placeholders: names whose values a measurement gives; the names in the formula come first.
    transform: 'lin', 'log' or 'log10'. The transformed values have the distribution. laplace:
    whether the distribution is Laplace's, instead of the normal one.
    """

    name: str
    formula: sp.Expr
    noise: sp.Expr
    placeholders: tuple[str, ...] = ()
    transform: Scale = "lin"
    laplace: bool = False


@dataclass(frozen=True)
class Period:
    """A part of an experiment that begins with changes of the model.

    time: when it begins; PRE_EQUILIBRATION for a steady state before the experiment. changes:
    quantity -> expression. None resets a constant to the value in the model, and keeps a state.
    names: of the conditions.
    """

    time: float
    changes: dict[str, sp.Expr | None] = field(default_factory=dict)
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """Periods in the order of their times. inputs: of networks (networks.py), which its first
    condition gives."""

    name: str
    periods: tuple[Period, ...]
    inputs: dict[str, sp.Expr] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """One measured value. time: STEADY for the steady state. overrides: expressions for the
    placeholders of the observable. row: its place in the files."""

    observable: str
    experiment: str
    time: float
    value: float
    overrides: tuple[sp.Expr, ...] = ()
    row: int = 0


@dataclass(frozen=True)
class Definition:
    """An estimation problem as its files say it.

    model: the text of the SBML file. mapping: name in the tables -> name in the model. networks: of
    a hybrid problem. assigned: constant -> expression of the outputs of networks.
    """

    name: str
    model: str
    parameters: tuple[ParameterInfo, ...]
    observables: dict[str, Observable]
    experiments: dict[str, Experiment]
    measurements: tuple[Measurement, ...]
    mapping: dict[str, str] = field(default_factory=dict)
    networks: tuple[Any, ...] = ()
    assigned: dict[str, sp.Expr] = field(default_factory=dict)
