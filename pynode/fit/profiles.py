"""Profile likelihoods, by pypesto, and the intervals that follow from them.

The profile of a parameter is the lowest objective for each of its values. Its confidence interval
are the values whose objective is at most chi2_1(level) / 2 above the optimum (Raue et al.,
Bioinformatics 25 (2009)), or somewhat more where the noise is estimated (``rise`` in fisher.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.parameter_info import ParameterInfo, from_scale
from .fisher import AT_BOUND, Freedom, Interval, box, rise
from .packages import require
from .progress import SilentProgress
from .protocol import estimated
from .result import Estimate

PROFILES = "profiles"
SIDES = {-1: "down", 1: "up"}
WIDEST_UNIT = 1 / 8  # of the box: the unit of a parameter that the data do not determine
# Steps in units of the standard deviation.
FIRST_STEP = 0.7
SHORTEST_STEP = 0.5
LONGEST_STEP = 1.5
TOLERANCE = 1e-4  # of the objective: far below the limit of an interval, 1.92


@dataclass(frozen=True)
class Profile:
    """The profile of one parameter. theta: (q,) its values, ascending, in its scale; objective:
    (q,) the lowest for each. best: the objective of the optimum, which is at theta[middle].
    freedom: as in ``Estimate``."""

    info: ParameterInfo
    theta: np.ndarray
    objective: np.ndarray
    best: float
    middle: int
    freedom: Freedom | None = None

    @property
    def name(self) -> str:
        """The name of the parameter."""
        return self.info.name

    @property
    def lowest(self) -> float:
        """The lowest objective on the profile."""
        return float(self.objective.min())

    def interval(self, level: float = 0.95) -> Interval:
        """The confidence interval. It is open where the profile ends below the limit."""
        high = self._end(self.theta[self.middle :], self.objective[self.middle :], level)
        low = self._end(self.theta[self.middle :: -1], self.objective[self.middle :: -1], level)
        scale = self.info.scale
        return Interval(
            self.name,
            from_scale(float(self.theta[self.middle]), scale),
            from_scale(low[0], scale),
            from_scale(high[0], scale),
            low[1],
            high[1],
            level,
            "profile",
        )

    def _end(self, theta, objective, level):
        """(where the objective passes the limit, whether it does not).

        Between two points the root of the difference is taken as linear, as it is for a quadratic
        objective.
        """
        root = np.sqrt(np.clip(objective - self.best, 0.0, None))
        limit = math.sqrt(rise(level, self.freedom))
        above = np.flatnonzero(root > limit)
        if not len(above):
            return float(theta[-1]), True
        i = int(above[0])
        if i == 0:
            return float(theta[0]), False
        part = (limit - root[i - 1]) / (root[i] - root[i - 1])
        return float(theta[i - 1] + part * (theta[i] - theta[i - 1])), False


def profile(
    found: Estimate,
    names: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    optimiser: str = "fides",
    iterations: int = 100,
    processes: int | str = 1,
    out: str | Path | None = None,
    resume: bool = False,
    progress: SilentProgress | None = None,
) -> dict[str, Profile]:
    """The profiles of some parameters, by default all; also in ``found.profiles``.

    names: of the parameters. level: how far the profiles reach, at least. The further arguments
    are as for ``estimate``. A KeyboardInterrupt ends the work: the profiles that are ready are
    returned, and ``found.interrupted`` is True. Raises ValueError for an unknown name.
    """
    require()
    from .optimisers import optimiser as made
    from .pypesto_objective import Stopped
    from .tasks import STOP, KeepingEngine, engine, folder

    infos = estimated(found.problem)
    all_names = [info.name for info in infos]
    wanted = list(names or all_names)
    for name in wanted:
        if name not in all_names:
            raise ValueError(
                f"there is no parameter {name!r} to profile: they are {', '.join(all_names)}"
            )
    method = made(optimiser, iterations, TOLERANCE)
    told = progress or SilentProgress()
    with folder(out) as place:
        results = place / PROFILES
        results.mkdir(exist_ok=True)
        if not resume:
            for old in results.glob("*.json"):
                old.unlink()
        files = _Files(results, _units(found), found, level)
        missing = [i for i, name in enumerate(all_names) if name in wanted and not files.has(i)]
        shown = [2 * (len(wanted) - len(missing))]

        def show(path: Path) -> None:
            shown[0] += 1
            told.step("profile", shown[0], 2 * len(wanted), f"{files.name(path)} is ready")

        plain = partial(plain_half, level=level)
        keeping = KeepingEngine(engine(processes), files.of_task, plain, place / STOP, show)
        try:
            if missing:
                _walk(found, missing, level, method, keeping, place / STOP)
        except Stopped:
            found.interrupted = True
        ready = {name: i for i, name in enumerate(all_names) if name in wanted and files.has(i)}
        found.profiles.update({name: files.profile(i) for name, i in ready.items()})
    return {name: found.profiles[name] for name in ready}


class _Files:
    """The halves of the profiles as files of a folder. level: how far they have to reach."""

    def __init__(self, folder: Path, unit: np.ndarray, found: Estimate, level: float) -> None:
        self.folder = folder
        self.unit = unit
        self.found = found
        self.level = level
        self.infos = estimated(found.problem)

    def path(self, i: int, side: int) -> Path:
        return self.folder / f"profile-{i:04d}-{SIDES[side]}.json"

    def of_task(self, task: Any) -> Path:
        return self.path(task.i_par, task.par_direction)

    def has(self, i: int) -> bool:
        """Whether both halves are there, reach far enough, and begin at this optimum."""
        for side in SIDES:
            path = self.path(i, side)
            if not path.exists():
                return False
            plain = json.loads(path.read_text(encoding="utf-8"))
            if plain["level"] < self.level or self.found.objective not in plain["objective"]:
                return False
        return True

    def name(self, path: Path) -> str:
        _, number, side = path.stem.split("-")
        return f"{self.infos[int(number)].name} {side}"

    def profile(self, i: int) -> Profile:
        halves = {}
        for side in SIDES:
            plain = json.loads(self.path(i, side).read_text(encoding="utf-8"))
            x = np.array(plain["x"])
            value = np.array(plain["objective"])
            order = np.argsort(x, kind="stable")
            halves[side] = (x[order], value[order])
        # The optimum is the last point of the lower half and the first of the upper one.
        x = np.concatenate((halves[-1][0], halves[1][0][1:]))
        value = np.concatenate((halves[-1][1], halves[1][1][1:]))
        theta = float(self.found.theta[i]) + self.unit[i] * x
        middle = len(halves[-1][0]) - 1
        best = self.found.objective
        return Profile(self.infos[i], theta, value, best, middle, self.found.freedom)


def plain_half(result: dict[str, Any], level: float) -> dict[str, Any]:
    """One half of a profile of pypesto as plain data: x in the units of the profile, and the
    objective."""
    walked = result["profile"]
    return {
        "level": level,
        "x": walked.x_path[result["index"]].tolist(),
        "objective": walked.fval_path.tolist(),
    }


def _units(found):
    """The unit of each coordinate of the profiles, (k,): its standard deviation, within limits."""
    lower, upper = box(estimated(found.problem))
    width = (upper - lower).numpy()
    spread = found.information.deviations().numpy()
    unit = np.minimum(spread, WIDEST_UNIT * width)
    return np.where(unit > AT_BOUND * WIDEST_UNIT * width, unit, WIDEST_UNIT * width)


def _walk(found, places, level, method, engine, stop):
    """Run pypesto's profiles of the parameters in places."""
    from pypesto.profile import ProfileOptions, parameter_profile
    from pypesto.result import OptimizerResult, Result

    from .pypesto_objective import pypesto_problem

    centre = found.theta.numpy()
    unit = _units(found)
    problem = pypesto_problem(found.problem, centre, unit, str(stop))
    result = Result(problem)
    zero = np.zeros(len(centre))
    gradient = found.problem.gradient(found.theta)[1].numpy() * unit
    result.optimize_result.append(
        OptimizerResult(id="0", x=zero, x0=zero, fval=found.objective, grad=gradient, exitflag=0)
    )
    options = ProfileOptions(
        default_step_size_absolute=FIRST_STEP,
        min_step_size_absolute=SHORTEST_STEP,
        max_step_size_absolute=LONGEST_STEP,
        default_step_size_relative=0.0,
        # Somewhat further than the limit, so that the limit lies between two points.
        ratio_min=0.9 * math.exp(-rise(level, found.freedom)),
        delta_ratio_max=0.2,
        step_size_precheck_mode="off",
    )
    with torch.no_grad():
        parameter_profile(
            problem,
            result,
            method,
            engine=engine,
            profile_index=places,
            profile_options=options,
            progress_bar=False,
        )
