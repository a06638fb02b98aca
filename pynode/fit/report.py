"""Everything that an estimation found, as files of one folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ..core.files import save_text
from .pictures import plot_fit, plot_profiles, plot_waterfall, residuals
from .prediction_bands import Bands, bands, predictions
from .protocol import Predictions
from .result import Estimate


def save_results(found: Estimate, out: str | PathLike[str], level: float = 0.95) -> list[Path]:
    """Write results.json, parameters.csv, starts.csv, predictions.csv (measured and simulated
    values) and bands.csv (curves with their bands). Of an interrupted estimation only the first
    three are written, which is quick. Returns the paths. Raises SolveError if the optimum cannot be
    simulated, OSError if the disk refuses."""
    out = Path(out)
    plain = json.loads(json.dumps(found.as_dict(level)), parse_constant=lambda name: None)
    written = [save_text(out / "results.json", json.dumps(plain, indent=2))]
    written += found.save_tables(out, level)
    if found.interrupted:
        return written
    written.append(_save_predictions(out / "predictions.csv", predictions(found)))
    written.append(_save_bands(out / "bands.csv", bands(found, level)))
    return written


def save_pictures(
    found: Estimate,
    out: str | PathLike[str],
    level: float = 0.95,
    time: str = "time",
    labels: Mapping[str, str] | None = None,
) -> list[Path]:
    """Draw waterfall.png, fit.png and, if there are profiles, profiles.png. labels: observables
    with their units. Returns the paths. Raises ImportError without matplotlib."""
    out = Path(out)
    drawn = [plot_waterfall(out / "waterfall.png", found)]
    curves = bands(found, level)
    drawn.append(plot_fit(out / "fit.png", predictions(found), curves, level, time, labels))
    if found.profiles:
        drawn.append(plot_profiles(out / "profiles.png", found.profiles, level))
    return drawn


def _save_predictions(path: Path, table: Predictions) -> Path:
    columns: dict[str, Any] = {
        "observable": table.observable,
        "condition": table.condition,
        "time": table.time.tolist(),
        "measured": table.measured.tolist(),
        "simulated": table.simulated.tolist(),
        "noise": table.noise.tolist(),
        "residual": residuals(table).tolist(),
    }
    return _save(path, columns)


def _save_bands(path: Path, found: Bands) -> Path:
    columns: dict[str, Any] = {
        "observable": found.curves.observable,
        "condition": found.curves.condition,
        "time": found.curves.time.tolist(),
        "simulated": found.curves.simulated.tolist(),
        "lower": found.lower.tolist(),
        "upper": found.upper.tolist(),
    }
    return _save(path, columns)


def _save(path, columns):
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return save_text(path, table.getvalue())
