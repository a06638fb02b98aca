"""What every benchmark leaves: a table on the screen, and the same as CSV and JSON with versions
and machine."""

import argparse
import csv
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "torchdiffeq",
    "torchode",
    "scikit-sundae",
    "diffrax",
    "jax",
    "casadi",
    "pydiffsol",
)


def parser(doc: str) -> argparse.ArgumentParser:
    """A parser whose --help is the docstring of the benchmark, with the arguments that all of them
    have."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--seconds",
        type=float,
        default=4.0,
        help="most time for each pair of contestants (default 4)",
    )
    made.add_argument(
        "--wall",
        dest="clock",
        action="store_const",
        const="wall",
        default="cpu",
        help="time on the wall, not of the CPU",
    )
    made.add_argument(
        "--out", type=Path, default=RESULTS, help="folder of the CSV and JSON (benchmarks/results)"
    )
    return made


def missing(module: str, package: str | None = None) -> bool:
    """Whether a peer cannot be imported; says so."""
    try:
        importlib.import_module(module)
    # A peer may fail on import in its own ways, and the rest of the table stands without it.
    except Exception as error:
        reason = (
            "not installed"
            if isinstance(error, ModuleNotFoundError)
            else f"does not import: {error}"
        )
        print(f"{package or module}: {reason}")
        return True
    return False


def environment() -> dict:
    """Versions and machine; nothing that names the machine or its folders."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    machine = {
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
    }
    return {"versions": versions, "machine": machine}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def heading():
    """One line of versions and one of the machine, above the tables."""
    found = environment()
    print(
        ", ".join(
            f"{name} {version}"
            for name, version in found["versions"].items()
            if version != "not installed"
        )
    )
    print(", ".join(f"{name} {value}" for name, value in found["machine"].items()))


def progress(*words):
    """What is being measured, on the error stream: it comes before the tables and does not mix with
    them."""
    print("...", *words, file=sys.stderr, flush=True)


def table(title: str, rows: list, columns: tuple):
    """Print the rows, dicts, under the columns; a column missing in a row stays empty."""
    cells = [list(columns)] + [[_text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    print(f"\n{title}")
    for line in cells:
        print(
            "  "
            + "  ".join(
                text.rjust(w) if i else text.ljust(w)
                for i, (text, w) in enumerate(zip(line, widths))
            )
        )


def _text(value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        if value != 0 and (abs(value) < 1e-2 or abs(value) >= 1e5):
            return f"{value:.1e}"
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def save(name: str, tables: dict, args):
    """Write tables, {title: rows}, to NAME.json and NAME.csv (one file for all, with the title as
    first column)."""
    args.out.mkdir(parents=True, exist_ok=True)
    chosen = {key: value for key, value in vars(args).items() if key != "out"}
    record = {"benchmark": name, "arguments": chosen, **environment(), "tables": tables}
    (args.out / f"{name}.json").write_text(json.dumps(record, indent=1, default=str) + "\n")
    columns = {"table": None}
    for rows in tables.values():
        for row in rows:
            columns.update(dict.fromkeys(row))
    with open(args.out / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        for title, rows in tables.items():
            writer.writerows({"table": title, **row} for row in rows)
    print(f"\nwritten: {name}.csv and {name}.json")
