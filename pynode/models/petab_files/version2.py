"""PEtab, version 2, read by the package petab."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import petab.v2 as petab
import sympy as sp
from petab.v1.yaml import load_yaml

from ...core.parameter_info import ParameterInfo
from ..reactions.refusal import UnsupportedFeature
from .priors import Prior
from .records import Definition, Experiment, Measurement, Observable, Period
from .sciml import Extension, section

_TRANSFORMS = {"normal": "lin", "laplace": "lin", "log-normal": "log", "log-laplace": "log"}
_NO_EXPERIMENT = ""


def definition_of(path: str) -> Definition:
    """The problem of a YAML file of version 2."""
    config = load_yaml(path)
    _check_languages(config)
    hybrid = section(config)
    if hybrid is None:
        return _definition(petab.Problem.from_yaml(path), path, False)
    folder = Path(path).resolve().parent
    extension = Extension(folder, hybrid)
    with TemporaryDirectory() as place:
        plain = extension.strip(folder, config, Path(place))
        problem = petab.Problem.from_yaml(str(plain))
        any_prior = extension.any_prior or _any_prior(problem.parameters)
        return extension.add_to(_definition(problem, path, any_prior), any_prior)


def _definition(problem, path, any_prior):
    if len(problem.models) != 1:
        raise UnsupportedFeature(
            f"a PEtab problem with {len(problem.models)} models", "problems with one are read"
        )
    experiments = {item.id: _experiment(problem, item) for item in problem.experiments}
    measurements = tuple(_measurement(i, item) for i, item in enumerate(problem.measurements))
    if any(item.experiment == _NO_EXPERIMENT for item in measurements):
        experiments[_NO_EXPERIMENT] = Experiment(_NO_EXPERIMENT, (Period(0.0),))
    return Definition(
        name=str(path),
        model=problem.models[0].to_sbml_str(),
        parameters=_parameters(problem.parameters, any_prior),
        observables={item.id: _observable(item) for item in problem.observables},
        experiments=experiments,
        measurements=measurements,
        mapping={item.petab_id: item.model_id for item in problem.mappings if item.model_id},
    )


def _check_languages(config):
    """Raise UnsupportedFeature for a model that is no SBML, before a package for it is needed."""
    for item in (config.get("model_files") or {}).values():
        if item.get("language") != "sbml":
            raise UnsupportedFeature(
                f"a PEtab problem with a model in {item.get('language')!r}", "SBML models are read"
            )


def _experiment(problem, item):
    periods = []
    for period in item.sorted_periods:
        changes: dict[str, sp.Expr | None] = {}
        for condition in problem.conditions:
            if condition.id in period.condition_ids:
                changes |= {item.target_id: item.target_value for item in condition.changes}
        periods.append(Period(float(period.time), changes, tuple(period.condition_ids)))
    if all(period.is_preequilibration for period in item.periods):
        periods.append(Period(0.0))
    return Experiment(item.id, tuple(periods))


def _measurement(place, item):
    return Measurement(
        item.observable_id,
        item.experiment_id or _NO_EXPERIMENT,
        float(item.time),
        float(item.measurement),
        (*item.observable_parameters, *item.noise_parameters),
        place,
    )


def _observable(item):
    placeholders = (*item.observable_placeholders, *item.noise_placeholders)
    kind = getattr(item.noise_distribution, "value", item.noise_distribution)
    return Observable(
        item.id,
        item.formula,
        item.noise_formula,
        tuple(str(found) for found in placeholders),
        _TRANSFORMS[kind],
        kind.endswith("laplace"),
    )


def _any_prior(items):
    return any(item.estimate and item.prior_distribution for item in items)


def _number(value, default):
    if value is None:
        return default
    return float(value)


def _parameters(items, any_prior):
    """Where one parameter has a prior, the others are uniform between their bounds."""
    any_prior = any_prior or _any_prior(items)
    found = []
    for item in items:
        prior = None
        if item.estimate and any_prior:
            prior = Prior.version2(item)
        found.append(
            ParameterInfo(
                item.id,
                _number(item.nominal_value, math.nan),
                _number(item.lb, -math.inf),
                _number(item.ub, math.inf),
                "lin",
                prior,
                item.estimate,
            )
        )
    return tuple(found)
