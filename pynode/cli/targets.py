"""The target of a command: a named problem, a trained model, or an object in Python code."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .. import problems
from ..core.problem import ODEProblem
from ..problems import Problem
from ..train import ModelError, load_model


def target(
    name: str, y0: Sequence[float] | None = None, tspan: tuple[float, float] | None = None
) -> Problem:
    """The Problem of a name, a model file or 'module:object'. y0 (floats) and tspan replace its own
    start and time span.

    Runs the code of a module or file. Raises ModelError or ValueError if the name means nothing
    that pynode can solve.
    """
    path, _, attribute = name.rpartition(":")
    if path and (path.endswith(".py") or not Path(name).exists()):
        problem = _as_problem(load_object(path, attribute), attribute, y0, tspan)
    elif Path(name).exists() or Path(name).suffix == ".pt":
        problem = load_model(name).as_problem(Path(name).stem)
    else:
        try:
            problem = problems.get(name)
        except ValueError as error:
            raise ModelError(f"{name} is neither a model file nor a problem: {error}") from None
    if y0 is not None:
        if len(y0) != len(problem.y0):
            raise ValueError(
                f"{len(y0)} values in --y0 for {len(problem.y0)} states of {problem.name}"
            )
        problem = replace(problem, y0=torch.tensor(y0, dtype=problem.y0.dtype))
    if tspan is None:
        return problem
    return replace(problem, tspan=tspan, t_eval=None)


def load_object(path: str, attribute: str) -> Any:
    """The object of this name in a file or a module, whose code it runs; a module class as an
    instance. Raises ModelError."""
    try:
        if path.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(path).stem, path)
            assert spec is not None and spec.loader is not None  # a path that ends in .py has both
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            if "" not in sys.path:
                sys.path.insert(0, "")  # like python -m: finds modules of the folder
            module = importlib.import_module(path)
    except (FileNotFoundError, ModuleNotFoundError) as error:
        raise ModelError(
            f"{path} cannot be imported ({error}): give a module, or a file that ends in .py"
        ) from None
    except Exception as error:  # any error of that code
        raise ModelError(
            f"{path} cannot be run ({type(error).__name__}: {error}): --debug shows where it fails"
        ) from error
    try:
        value = getattr(module, attribute)
    except AttributeError:
        names = (
            ", ".join(
                n for n in vars(module) if not n.startswith("_") and callable(vars(module)[n])
            )
            or "nothing"
        )
        raise ModelError(f"{path} has no {attribute!r}; it has {names}") from None
    # A module class is called without arguments. A function that makes a problem looks like a
    # field, so it is taken as a field.
    if isinstance(value, type) and issubclass(value, torch.nn.Module):
        return value()
    return value


def known_part(name: str) -> Callable[[Any, torch.Tensor], torch.Tensor] | None:
    """The known part f(t, y) of a training run by its name, FILE.py:f; None for ''. Raises
    ModelError."""
    if not name:
        return None
    path, _, attribute = name.rpartition(":")
    value = load_object(path, attribute)
    if not callable(value):
        raise ModelError(f"{name} is a {type(value).__name__}: give a function f(t, y) or a module")
    return value


def _as_problem(value, name, y0, tspan) -> Problem:
    if isinstance(value, Problem):
        return value
    if isinstance(value, ODEProblem):
        start = value.y0
        times = torch.as_tensor(value.tspan, dtype=torch.float64)
        if (
            not isinstance(start, torch.Tensor)
            or start.dim() != 1
            or value.args
            or value.mass is not None
        ):
            raise ValueError(
                f"{name} has a state in parts, args or a mass matrix, which no command takes: use"
                " pynode.solve"
            )
        value = value.f
        y0 = start.tolist()
        tspan = (float(times[0]), float(times[-1]))
    elif not callable(value):
        kind = type(value).__name__
        raise ModelError(
            f"{name} is a {kind}: give a Problem, an ODEProblem, a module or a function f(t, y)"
        )
    if y0 is None:
        y0 = getattr(value, "y0", None)
    if tspan is None:
        tspan = getattr(value, "tspan", None)
    if y0 is None or tspan is None:
        raise ValueError(
            f"{name} is a vector field: say where it starts, --y0 1,0,0, and over which times, --t"
            " 0,10, as options of pynode solve; or give it the attributes y0 and tspan"
        )
    if isinstance(value, torch.nn.Module):
        field = value
    else:
        field = _Function(value)
    dtype = next((p.dtype for p in field.parameters() if p.is_floating_point()), torch.float64)
    start = torch.as_tensor(y0, dtype=dtype).reshape(-1)
    return Problem(
        name,
        field,
        start,
        tuple(tspan),
        1e-6,
        1e-9,
        stiff=False,
        source="given on the command line",
    )


class _Function(torch.nn.Module):
    """A plain function f(t, y) as a module, as a Problem holds one."""

    def __init__(self, f: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.f = f

    def forward(self, t: Any, y: Any) -> Any:
        return self.f(t, y)
