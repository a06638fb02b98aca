"""What the backward passes of all solves of a field by one method share."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ...backends.native import bdf as bdf_steps
from ...backends.native import esdirk as esdirk_steps
from ...backends.native import explicit as explicit_steps
from ...backends.native import radau as radau_steps
from ...backends.native import rosenbrock as rosenbrock_steps
from ...backends.native.blocks import Blueprint, Given, Own, Part
from ...backends.native.linear import linear_arrays
from ...backends.native.prepared import Prepared
from ...backends.native.trajectory import NativeTrajectory
from . import bdf, esdirk, explicit, radau, rosenbrock, stability
from .sweep import RECORD, STAGES, Memory, Run

FUNCTIONS = ("f", "pullback", "jac", "vjp_p", "second", "stage", "gather")  # of Run
# Numbers in all targets from which on their cotangents are added for several stages together.
FEWEST = 500

# The module that goes back (sweep.py) by the module that went forward.
BACKWARD = {
    bdf_steps: bdf,
    esdirk_steps: esdirk,
    explicit_steps: explicit,
    radau_steps: radau,
    rosenbrock_steps: rosenbrock,
}


class PreparedSweep:
    """The functions that a backward pass needs, and where its arrays lie.

    field: the NativeField of the solve; plan: of the solve. total: the numbers in all
    differentiable targets; shapes: of these targets; ends: 0, and where each of them ends among the
    numbers. template: (1,) RECORD without the place where a pass begins.
    """

    def __init__(self, field: Any, plan: Prepared) -> None:
        self.family = BACKWARD[plan.family]
        self.tables = plan.tables
        self.real = plan.real
        self.sizes = self.family.sizes(plan.tables)
        self.shapes = [tuple(field.targets[i].shape) for i in field.differentiable]
        sizes = [math.prod(shape) for shape in self.shapes]
        self.ends = list(itertools.accumulate(sizes, initial=0))
        self.total = self.ends[-1]
        self.kept = (0, 1)  # the shape of Memory.kept
        self.functions = self._functions(field)
        self.work = max(1, *(function.work for function in self.functions.values()))
        self.blueprint = self._blueprint(field, plan)
        self.template = self._template(plan)

    def _functions(self, field: Any) -> dict[str, Any]:
        """The functions of the field by their names in Run."""
        names = {"f": "f"}
        if self.sizes.slopes:
            names["jac"] = "jac_step"
            names["second"] = f"add_second*{min(self.sizes.slopes, field.n)}"
        elif self.sizes.implicit:
            names["jac"] = "jac_kept"
            names["vjp_p"] = "add_kept" if self.sizes.kept else "add_vjp_p"
        found = {name: field.function(wanted) for name, wanted in names.items()}
        if self.sizes.staged and self.total >= FEWEST:
            stage = field.function("pull_stage")
            if stage.size:
                self.kept = (STAGES, stage.work)
                gather = field.function(f"add_stages*{STAGES}")
                return {**found, "stage": stage, "gather": gather}
        return {**found, "pullback": field.function("add_pullback")}

    def split(self, flat: np.ndarray) -> list[np.ndarray]:
        """The parts of flat, (..., total), for the targets, (..., shape) each: views."""
        rows = flat.shape[:-1]
        ends = self.ends
        return [
            flat[..., ends[k] : ends[k + 1]].reshape((*rows, *shape))
            for k, shape in enumerate(self.shapes)
        ]

    def _template(self, plan: Prepared) -> np.ndarray:
        addresses = dict.fromkeys(FUNCTIONS, 0)
        for name, function in self.functions.items():
            addresses[name] = function.address
        run = Run(h0=0.0, repair=plan.repair, **addresses, step=0, output=0)
        return np.array([tuple(run)], dtype=RECORD)

    def _blueprint(self, field: Any, plan: Prepared) -> Blueprint:
        sizes = self.sizes
        real = plan.real
        n = plan.size
        total = self.total
        rows = columns = np.empty(0, np.int64)
        matrices = 0
        if sizes.implicit:
            rows, columns = field.pattern()
            matrices = n * sizes.width
        copied = 0
        if sizes.width > 1:
            copied = matrices
        arrays = {
            "ybar": Own((n,), real, True),
            "start": Own((n,), real, True),
            "point": Own((n,), real, True),
            "pulled": Own((n + total + 1,), real, True),
            "grads": Part("pulled", n, (total,), real),
            "staged": Own((n + 1,), real),
            "kept": Own(self.kept, real),
            "pairs": Own((min(sizes.slopes, n), 2 * n + 1), real, True),
            "bars": Own((sizes.bars, n), real, True),
            "vectors": Own((sizes.vectors, n), real, True),
            "numbers": Own((sizes.numbers,), np.float64, True),
            "jac": Own((len(rows) + n * (sizes.implicit + bool(sizes.slopes)),), real, True),
            "rows": rows,
            "columns": columns,
            "matrix": Own((matrices, matrices), real),
            "pivots": Own((matrices,), np.int64),
            "whole": Own((copied, copied), real),
            "right": Own((2, copied), real),
            "cotangents": Given(2, real),
            **of_steps(real),
            **linear_arrays(n, rows, columns, real, sizes.sparse, plan.mass),
        }
        return Blueprint(Memory, arrays)


def of_steps(real: np.dtype) -> dict[str, Given]:
    """The arrays of a pass over recorded steps that come from the solve and from its outputs."""
    return {
        "inputs": Given(1, np.int64),
        "work": Given(1, real),
        "starts": Given(1, np.float64),
        "sizes": Given(1, np.float64),
        "states": Given(2, real),
        "stages": Given(3, real),
        "tape_numbers": Given(2, np.float64),
        "last": Given(1, real),
        "output_steps": Given(1, np.int64),
        "thetas": Given(1, np.float64),
    }


def prepared(field: Any, trajectory: NativeTrajectory) -> PreparedSweep:
    """The PreparedSweep of a solve. It is made once for all solves of the field by its method.

    It must be made right after the solve: in a backward pass f can hold copies of its tensors.
    """
    plan = trajectory.plan
    if plan.family is explicit_steps and stability.watches(field, trajectory):
        field.function("jac")
    # Its targets have the shapes of this field's.
    if plan.sweep is None:
        plan.sweep = PreparedSweep(field, plan)
    return plan.sweep
