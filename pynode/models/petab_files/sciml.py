"""The extension PEtab-SciML of PEtab 2: problems with neural networks, read by petab_sciml."""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import petab.v2 as petab
import sympy as sp
import torch
from petab.v1.math import sympify_petab
from petab.v1.yaml import write_yaml

from ...core.parameter_info import ParameterInfo
from ..reactions.refusal import UnsupportedFeature
from ..reactions.symbols import symbol
from .networks import Network, derived_symbol
from .priors import Prior
from .records import Definition, Experiment

NAMES = ("sciml", "petab_sciml")
_TABLES = ("measurement", "condition", "experiment", "observable", "parameter", "mapping")
_ENTITY = re.compile(r"(\w+)\.(inputs|outputs|parameters)(.*)")
_PRIOR = ("priorDistribution", "priorParameters")


class Extension:
    """What the extension adds to a problem.

    folder: of the YAML file. config: the section of the extension.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        try:
            from petab_sciml.standard.array_data import ArrayDataStandard
            from petab_sciml.standard.nn_model import NNModelStandard
        except ImportError as error:
            raise ImportError(
                "a PEtab problem with neural networks needs the package petab_sciml, which needs"
                " Python 3.12: pip install petab-sciml"
            ) from error
        self.entities: dict[str, str] = {}
        self.rows: list[dict[str, Any]] = []
        self.networks = config["neural_networks"]
        self.modules = {}
        for name, item in self.networks.items():
            if str(item["format"]).lower() != "yaml":
                raise UnsupportedFeature(
                    f"a network in the format {item['format']!r}", "networks in YAML are read"
                )
            loaded = NNModelStandard.load_data(folder / item["location"])
            self.modules[name] = loaded.to_pytorch_module().double().eval()
        arrays = [
            ArrayDataStandard.load_data(folder / file) for file in config.get("array_files") or ()
        ]
        self.arrays: dict[str, dict[str, torch.Tensor]] = {}
        self.values: dict[str, dict[str, dict[str, np.ndarray]]] = {}
        for data in arrays:
            if not data.metadata.pytorch_format:
                raise UnsupportedFeature(
                    "an array file whose pytorch_format is false", "write it in PyTorch's order"
                )
            for name, parts in data.inputs.items():
                self.arrays[name] = {
                    key: torch.as_tensor(np.asarray(part), dtype=torch.float64)
                    for key, part in parts.items()
                }
            self.values.update(data.parameters)
        tables = [_table(folder / file) for file in config["hybridization_files"]]
        self.assigned = {
            str(row["targetId"]): str(row["targetValue"])
            for table in tables
            for _, row in table.iterrows()
        }

    def strip(self, folder: Path, config: dict[str, Any], target: Path) -> Path:
        """Write the problem without its networks into a folder, as the package petab reads it."""
        plain = {key: value for key, value in config.items() if key != "extensions"}
        for item in plain["model_files"].values():
            item["location"] = str((folder / item["location"]).resolve())
        mappings = [_table(folder / file) for file in config.get("mapping_files") or ()]
        self.entities = {
            str(row["petabEntityId"]): str(row["modelEntityId"])
            for table in mappings
            for _, row in table.iterrows()
            if self._network_of(str(row["modelEntityId"]))
        }
        for kind in _TABLES:
            key = f"{kind}_files"
            files = []
            for number, file in enumerate(config.get(key) or ()):
                table = _table(folder / file)
                if kind == "parameter":
                    self._take_parameters(table)
                column = {"parameter": "parameterId", "mapping": "petabEntityId"}.get(kind)
                if column is not None:
                    entities = set(self.entities)
                    if kind == "parameter":
                        entities &= {str(row["parameterId"]) for row in self.rows}
                    table = table[~table[column].isin(entities)]
                if len(table):
                    path = target / f"{kind}{number}.tsv"
                    table.to_csv(path, sep="\t", index=False)
                    files.append(str(path))
            plain[key] = files
        path = target / "problem.yaml"
        write_yaml(plain, path)
        return path

    def _network_of(self, entity):
        match = _ENTITY.fullmatch(entity)
        return match is not None and match.group(1) in self.networks

    def _take_parameters(self, table):
        """Keep the rows of parameters of networks."""
        for _, row in table.iterrows():
            entity = self.entities.get(str(row["parameterId"]), "")
            if ".parameters" in entity:
                self.rows.append(row.to_dict())

    @property
    def any_prior(self) -> bool:
        """Whether a parameter of a network has a prior."""
        return any(row.get("priorDistribution") for row in self.rows)

    def add_to(self, definition: Definition, any_prior: bool) -> Definition:
        """The problem with its networks."""
        parameters = list(definition.parameters)
        networks = []
        for name, item in self.networks.items():
            tensors = {}
            for tensor, value in self.modules[name].state_dict().items():
                infos = self._elements(name, tensor, value, any_prior)
                if not infos:
                    continue
                tensors[tensor] = (tuple(value.shape), infos[0].name)
                parameters += infos
            networks.append(self._network(name, bool(item["pre_initialization"]), tensors))
        experiments = {
            name: self._experiment(experiment, networks)
            for name, experiment in definition.experiments.items()
        }
        return replace(
            definition,
            parameters=tuple(parameters),
            experiments=experiments,
            networks=tuple(networks),
            assigned={
                target: sympify_petab(value)
                for target, value in self.assigned.items()
                if target not in self.entities
            },
        )

    def _elements(self, network, tensor, value, any_prior):
        """The elements of a tensor as parameters."""
        layer, _, kind = tensor.rpartition(".")
        rows = self._rows_for(network, layer, kind)
        nominal = _setting(rows, "nominalValue", "array")
        values = value.double().numpy()
        if nominal == "array":
            known = self.values.get(network, {}).get(layer, {})
            if kind in known:
                values = np.asarray(known[kind], dtype=np.float64).reshape(value.shape)
        else:
            values = np.full(tuple(value.shape), float(nominal))
        estimate = _setting(rows, "estimate", "true").strip().lower() == "true"
        lower = float(_setting(rows, "lowerBound", "-inf"))
        upper = float(_setting(rows, "upperBound", "inf"))
        prior = None
        if estimate and any_prior:
            prior = _prior(rows, lower, upper)
        places = np.ndindex(*value.shape)
        return [
            ParameterInfo(
                f"{network}.{tensor}[{','.join(map(str, place))}]",
                float(values[place]),
                lower,
                upper,
                "lin",
                prior,
                estimate,
                network,
            )
            for place in places
        ]

    def _rows_for(self, network, layer, kind):
        """The rows of the parameter table for a tensor, the most specific one first."""
        wanted = (
            f"{network}.parameters[{layer}].{kind}",
            f"{network}.parameters[{layer}]",
            f"{network}.parameters",
        )
        return [
            row
            for entity in wanted
            for row in self.rows
            if self.entities[str(row["parameterId"])] == entity
        ]

    def _network(self, name, first, tensors):
        inputs: dict[int, dict[int, str]] = {}
        arrays: dict[int, str] = {}
        outputs = {}
        count = sum(node.op == "placeholder" for node in self.modules[name].graph.nodes)
        for entity, target in self.entities.items():
            match = _ENTITY.fullmatch(target)
            if match.group(1) != name or match.group(2) == "parameters":
                continue
            indices = [part.split(",") for part in re.findall(r"\[([^\]]*)\]", match.group(3))]
            number = int(indices[0][0])
            if match.group(2) == "outputs":
                outputs[entity] = (number, int(indices[1][-1]))
            elif len(indices) == 1:
                arrays[number] = entity
            else:
                inputs.setdefault(number, {})[int(indices[1][-1])] = entity
        arguments: list[tuple[str, ...] | str] = []
        for number in range(count):
            if number in arrays:
                arguments.append(arrays[number])
            else:
                own = inputs.get(number, {})
                arguments.append(tuple(own[place] for place in sorted(own)))
        assigned = {
            entity: sympify_petab(value)
            for entity, value in self.assigned.items()
            if entity in self.entities and value != "array"
        }
        named = {x for names in arguments if not isinstance(names, str) for x in names}
        return Network(
            name,
            self.modules[name],
            tensors,
            tuple(arguments),
            outputs,
            first,
            {entity: value for entity, value in assigned.items() if entity in named},
            self.arrays,
        )

    def _experiment(self, experiment: Experiment, networks: list[Network]) -> Experiment:
        """The experiment with the outputs of networks that are evaluated before it."""
        early = [network for network in networks if network.first]
        pairs = {
            symbol(output): derived_symbol(output, experiment.name)
            for network in early
            for output in network.outputs
        }
        periods = []
        for number, period in enumerate(experiment.periods):
            changes: dict[str, sp.Expr | None] = {}
            if number == 0:
                for target, text in self.assigned.items():
                    if target in self.entities:
                        continue
                    expression = sympify_petab(text)
                    if expression.free_symbols & set(pairs):
                        changes[target] = expression.xreplace(pairs)
            for target, value in period.changes.items():
                if target in self.entities:
                    continue
                changes[target] = value
                if value is not None:
                    changes[target] = value.xreplace(pairs)
            periods.append(replace(period, changes=changes))
        given = {
            target: value
            for target, value in experiment.periods[0].changes.items()
            if target in self.entities
        }
        return replace(experiment, periods=tuple(periods), inputs=given)


def _table(path: str | os.PathLike) -> pd.DataFrame:
    """A table whose cells stay texts."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def _setting(rows: list[dict[str, str]], column: str, default: str) -> str:
    """The setting of the most specific row that has one."""
    for row in rows:
        if row.get(column):
            return row[column]
    return default


def _prior(rows: list[dict[str, str]], lower: float, upper: float) -> Prior:
    """The prior of the most specific row that has one. Without one it is uniform between the
    bounds."""
    for row in rows:
        if row.get("priorDistribution"):
            given = {column: row[column] for column in _PRIOR}
            item = petab.Parameter(
                parameterId="network",
                lowerBound=lower,
                upperBound=upper,
                estimate=True,
                **given,
            )
            return Prior.version2(item)
    if math.isinf(upper - lower):
        raise ValueError(
            "a parameter of a network has no prior and no finite bounds, while others have priors"
        )
    return Prior("uniform", (lower, upper), "value", -math.log(upper - lower))


def section(config: dict[str, Any]) -> dict[str, Any] | None:
    """The section of the extension in a problem's YAML, or None. Raise UnsupportedFeature for
    another extension."""
    extensions = config.get("extensions") or {}
    others = [name for name in extensions if name not in NAMES]
    if others:
        raise UnsupportedFeature(
            f"the PEtab extension {', '.join(others)}", "problems without it are read"
        )
    for name in NAMES:
        if name in extensions:
            return extensions[name]
    return None
