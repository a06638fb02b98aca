"""``petab``: an estimation problem of PEtab files."""

from __future__ import annotations

import os
from typing import Any

from ...backends.packages import missing_for_native
from ..reactions.refusal import UnsupportedFeature
from ..sbml_files.read import sbml
from .problem import PetabProblem
from .simulation import SolveOptions
from .targets import with_free_constants

# Numbers of states for which RadauIIA9 is faster than Rodas5P at such tolerances.
MOST_FOR_RADAU = 16
RTOL = 1e-9
RTOL_OF_NETWORKS = 1e-10


def petab(
    path: str | os.PathLike,
    *,
    method: Any = "auto",
    rtol: float | None = None,
    atol: float = 1e-12,
    backend: Any = "auto",
    max_steps: int = 100_000,
) -> PetabProblem:
    """The estimation problem of a YAML file of PEtab, version 1 or 2.

    method, rtol, atol, backend, max_steps: of the solves, as in ``pynode.solve``. backend "auto"
        takes the native engine where it is installed. method "auto" takes RadauIIA9 there for
        models of up to 16 states, and Rodas5P otherwise. The tolerances are those at which
        gradients are right to four digits also where they nearly cancel: rtol is 1e-9, and 1e-10
        for problems with networks, whose gradients cancel more.

    Raise UnsupportedFeature, a ValueError, for a feature that pynode refuses (docs/published.md),
    and FileNotFoundError for a file that is not there.
    """
    path = os.fspath(path)
    try:
        from petab.v1.yaml import load_yaml
    except ImportError as error:
        raise ImportError(
            "PEtab problems need the package petab: pip install 'torch-stiff-ode[petab]'"
        ) from error
    if "://" not in path and not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path!r}")
    config = load_yaml(path)
    version = str(config.get("format_version", "")).split(".")[0]
    if version == "1":
        from .version1 import definition_of
    elif version == "2":
        from .version2 import definition_of
    else:
        raise UnsupportedFeature(
            f"PEtab's format_version {config.get('format_version')!r}", "versions 1 and 2 are read"
        )
    definition = definition_of(path)
    model, assigned = with_free_constants(sbml, definition)
    if backend == "auto":
        backend = "torch"
        if not missing_for_native():
            backend = "native"
    if method == "auto":
        method = "rodas5p"
        if backend == "native" and len(model.states) <= MOST_FOR_RADAU:
            method = "radauiia9"
    if rtol is None:
        rtol = RTOL
        if definition.networks:
            rtol = RTOL_OF_NETWORKS
    options = SolveOptions(method, rtol, atol, backend, "auto", max_steps)
    return PetabProblem(definition, model, options, assigned)
