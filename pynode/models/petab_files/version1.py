"""PEtab, version 1, read by the package petab."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import petab.v1 as petab
import sympy as sp
from petab.v1 import C
from petab.v1.math import sympify_petab

from ...core.parameter_info import ParameterInfo
from ..reactions.refusal import UnsupportedFeature
from .priors import Prior
from .records import (
    PRE_EQUILIBRATION,
    Definition,
    Experiment,
    Measurement,
    Observable,
    Period,
)


def definition_of(path: str) -> Definition:
    """The problem of a YAML file of version 1."""
    problem = petab.Problem.from_yaml(path)
    if problem.model is None or problem.model.type_id != "sbml":
        language = "no model"
        if problem.model is not None:
            language = f"a model of {problem.model.type_id!r}"
        raise UnsupportedFeature(f"a PEtab problem with {language}", "SBML models are read")
    if problem.extensions_config:
        names = ", ".join(problem.extensions_config)
        raise UnsupportedFeature(f"the PEtab extension {names}", "problems without it are read")
    observables = {
        str(name): _observable(str(name), row) for name, row in problem.observable_df.iterrows()
    }
    experiments, measurements = _experiments(problem)
    return Definition(
        name=str(path),
        model=problem.model.to_sbml_str(),
        parameters=tuple(_parameters(problem.parameter_df)),
        observables=observables,
        experiments=experiments,
        measurements=measurements,
        mapping=_mapping(problem.mapping_df),
    )


def _empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _get(row: Any, column: str, default: Any = None) -> Any:
    value = row.get(column, default)
    if _empty(value):
        return default
    return value


def _parameters(table):
    for name, row in table.iterrows():
        scale = _get(row, C.PARAMETER_SCALE, C.LIN)
        lower = float(_get(row, C.LOWER_BOUND, -math.inf))
        upper = float(_get(row, C.UPPER_BOUND, math.inf))
        estimate = bool(int(row[C.ESTIMATE]))
        prior = None
        kind = _get(row, C.OBJECTIVE_PRIOR_TYPE)
        if estimate and kind is not None:
            numbers = tuple(
                float(x)
                for x in str(row[C.OBJECTIVE_PRIOR_PARAMETERS]).split(C.PARAMETER_SEPARATOR)
            )
            prior = Prior.version1(kind, numbers, scale, (lower, upper))
        nominal = float(_get(row, C.NOMINAL_VALUE, math.nan))
        yield ParameterInfo(str(name), nominal, lower, upper, scale, prior, estimate)


def _observable(name, row):
    formula = sympify_petab(row[C.OBSERVABLE_FORMULA])
    noise = sympify_petab(row[C.NOISE_FORMULA])
    placeholders = []
    for prefix, expression in (("observableParameter", formula), ("noiseParameter", noise)):
        names = {found.name for found in expression.free_symbols}
        numbered = [text for text in names if text.startswith(prefix) and text.endswith(f"_{name}")]
        placeholders += sorted(numbered, key=lambda text: int(text[len(prefix) :].split("_")[0]))
    return Observable(
        name,
        formula,
        noise,
        tuple(placeholders),
        _get(row, C.OBSERVABLE_TRANSFORMATION, C.LIN),
        _get(row, C.NOISE_DISTRIBUTION, C.NORMAL) == C.LAPLACE,
    )


def _experiments(problem):
    """Each pair of a pre-equilibration and a simulation condition is an experiment."""
    table = problem.measurement_df
    conditions = problem.condition_df
    experiments = {}
    measurements = []
    for place, (_, row) in enumerate(table.iterrows()):
        before = _get(row, C.PREEQUILIBRATION_CONDITION_ID)
        after = str(row[C.SIMULATION_CONDITION_ID])
        name = after
        if before is not None:
            name = f"{before}+{after}"
        if name not in experiments:
            periods = [Period(0.0, _changes(conditions, after, before is None), (after,))]
            if before is not None:
                first = _changes(conditions, str(before), True)
                periods.insert(0, Period(PRE_EQUILIBRATION, first, (str(before),)))
            experiments[name] = Experiment(name, tuple(periods))
        overrides = _split(_get(row, C.OBSERVABLE_PARAMETERS))
        overrides += _split(_get(row, C.NOISE_PARAMETERS))
        measurements.append(
            Measurement(
                str(row[C.OBSERVABLE_ID]),
                name,
                float(row[C.TIME]),
                float(row[C.MEASUREMENT]),
                overrides,
                place,
            )
        )
    return experiments, tuple(measurements)


def _changes(table, name, first):
    """Quantity -> expression. Empty cells of later periods reset constants and keep states."""
    changes: dict[str, sp.Expr | None] = {}
    for column, value in table.loc[name].items():
        if column == C.CONDITION_NAME:
            continue
        if _empty(value):
            if not first:
                changes[str(column)] = None
            continue
        changes[str(column)] = _expression(value)
    return changes


def _expression(value):
    if isinstance(value, str):
        return sympify_petab(value)
    return sp.Float(float(value))


def _split(text):
    if text is None:
        return ()
    return tuple(_expression(part.strip()) for part in str(text).split(C.PARAMETER_SEPARATOR))


def _mapping(table: pd.DataFrame | None) -> dict[str, str]:
    if table is None:
        return {}
    names = table[C.MODEL_ENTITY_ID].items()
    return {str(name): str(target) for name, target in names if not _empty(target)}
