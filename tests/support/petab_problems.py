"""Small PEtab problems, written as files."""

from pathlib import Path

import yaml

# A decays to B, which decays. With A(0) = a and B(0) = b both have closed forms.
CHAIN = """
model chain()
  compartment cell = 1;
  species A in cell, B in cell;
  A = 1; B = 0;
  k1 = 0.5; k2 = 0.2;
  A -> B; cell*k1*A;
  B -> ; cell*k2*B;
end
"""
# A is made at the rate u and decays: it rests at u / k.
TANK = """
model tank()
  compartment cell = 1;
  species A in cell, B in cell;
  A = 0; B = 3;
  k = 0.5; u = 1;
  -> A; cell*u;
  A -> ; cell*k*A;
  B -> ; cell*0.1*B;
end
"""


def table(folder: Path, name: str, lines: list[dict]) -> str:
    """A tab-separated file. lines: column -> value; missing values are empty cells."""
    columns = list(dict.fromkeys(key for line in lines for key in line))
    rows = ["\t".join(columns)]
    rows += ["\t".join(str(line.get(column, "")) for column in columns) for line in lines]
    (folder / f"{name}.tsv").write_text("\n".join(rows) + "\n")
    return f"{name}.tsv"


def sbml_of(model: str) -> str:
    """An Antimony model as SBML."""
    import antimony

    antimony.clearPreviousLoads()
    if antimony.loadAntimonyString(model) < 0:
        raise ValueError(antimony.getLastError())
    return antimony.getSBMLString(antimony.getMainModuleName())


def version1(
    folder: Path,
    model: str,
    parameters: list[dict],
    conditions: list[dict],
    observables: list[dict],
    measurements: list[dict],
) -> Path:
    """The YAML file of a problem of version 1. Parameters have wide bounds and are estimated."""
    usual = {"parameterScale": "lin", "lowerBound": 1e-3, "upperBound": 1e3, "estimate": 1}
    (folder / "model.xml").write_text(sbml_of(model))
    config = {
        "format_version": 1,
        "parameter_file": table(folder, "parameters", [{**usual, **x} for x in parameters]),
        "problems": [
            {
                "sbml_files": ["model.xml"],
                "condition_files": [table(folder, "conditions", conditions)],
                "observable_files": [table(folder, "observables", observables)],
                "measurement_files": [table(folder, "measurements", measurements)],
            }
        ],
    }
    path = folder / "problem.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def version2(folder: Path, model: str, **tables: list[dict]) -> Path:
    """The YAML file of a problem of version 2. tables: conditions, experiments, observables,
    measurements, parameters."""
    (folder / "model.xml").write_text(sbml_of(model))
    config: dict = {
        "format_version": "2.0.0",
        "model_files": {"model": {"location": "model.xml", "language": "sbml"}},
    }
    for name in ("condition", "experiment", "observable", "measurement", "parameter"):
        lines = tables.get(f"{name}s")
        config[f"{name}_files"] = [table(folder, f"{name}s", lines)] if lines else []
    path = folder / "problem.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def differences(f, theta, step=1e-5):
    """The gradient of f by central differences."""
    import torch

    found = []
    for i in range(len(theta)):
        shift = torch.zeros_like(theta)
        shift[i] = step
        found.append((f(theta + shift) - f(theta - shift)) / (2 * step))
    return torch.stack(found, -1)
