"""``cantera``: a mechanism file as a reactor."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .extract import gas_data
from .mechanism import Mechanism
from .mixture import fractions
from .reactor import VOLUME, Inflow, Reactor

CHEMKIN = (".inp", ".dat", ".mech", ".chem", ".txt")
ENERGY = ("adiabatic", "isothermal")


def cantera(
    path: str | os.PathLike,
    reactor: str = VOLUME,
    *,
    phase: str = "",
    energy: str = "adiabatic",
    temperature: Callable[[Tensor], Tensor] | None = None,
    pressure: Callable[[Tensor], Tensor] | None = None,
    inflow: Mapping[str, Any] | None = None,
    residence_time: float | Tensor | None = None,
    thermo: str | os.PathLike | None = None,
) -> Reactor:
    """A homogeneous reactor of the gas in a mechanism file: dy/dt in mol, m, kg, s, K, Pa and J.

    path: a YAML file of Cantera, or the name of one that Cantera has ("gri30.yaml"). The package
        cantera reads it (``pip install 'torch-stiff-ode[cantera]'``). A CHEMKIN file (.inp, .mech,
        .dat, .chem, .txt) goes through Cantera's converter first.
    reactor: 'constant volume' or 'constant pressure'.
    phase: the name of the phase in the file; by default the first one.
    energy: 'adiabatic', or 'isothermal' for a temperature that stays.
    temperature: T(t) in K, prescribed: a function or an nn.Module of a tensor. T is then no state.
    pressure: P(t) in Pa, prescribed, for 'constant pressure'. P is then no state.
    inflow: makes the reactor stirred: a mapping with "T", and "X" or "Y" as ``Reactor.initial``
        takes them.
    residence_time: of a stirred reactor, in s: the mass in it over the mass that flows in, and out,
        in a second. It can be an nn.Parameter.
    thermo: the CHEMKIN file of the thermodynamics, if they are not in the mechanism.

    The rate constants are parameters: ``reactor.mechanism.arrhenius`` has log_A, b and E.

    Raises FileNotFoundError for a file that is not there, and ValueError, which names the feature,
    for anything in the phase that is not supported:
    phases that are no ideal gases (real gases, surfaces, plasmas), rates other than Arrhenius,
    three-body, Lindemann, Troe, SRI, Tsang, PLOG and Chebyshev, thermodynamics other than NASA-7,
    NASA-9 and constant-cp.
    """
    if energy not in ENERGY:
        raise ValueError(f"energy must be 'adiabatic' or 'isothermal', not {energy!r}")
    if energy == "isothermal" and temperature is not None:
        raise ValueError("temperature prescribes T: leave out energy='isothermal'")
    if (inflow is None) != (residence_time is None):
        raise ValueError("a stirred reactor needs both inflow and residence_time")
    mechanism = Mechanism(gas_data(_solution(path, phase, thermo), str(path)))
    entering = None
    if inflow is not None:
        entering = _inflow(mechanism, inflow, residence_time)
    return Reactor(
        mechanism,
        reactor,
        adiabatic=energy == "adiabatic",
        temperature=temperature,
        pressure=pressure,
        inflow=entering,
    )


def _inflow(mechanism: Mechanism, inflow: Mapping[str, Any], residence_time: Any) -> Inflow:
    unknown = set(inflow) - {"T", "X", "Y"}
    if unknown or "T" not in inflow or ("X" in inflow) == ("Y" in inflow):
        raise ValueError("inflow is a mapping with 'T', and 'X' or 'Y'")
    if "X" in inflow:
        moles = fractions(inflow["X"], mechanism.species, "the inflow's X")
        masses = moles * mechanism.masses
        Y = masses / masses.sum(-1, keepdim=True)
    else:
        Y = fractions(inflow["Y"], mechanism.species, "the inflow's Y")
    if not isinstance(residence_time, nn.Parameter):
        residence_time = torch.as_tensor(residence_time, dtype=torch.float64)
    if bool((residence_time <= 0).any()):
        raise ValueError(f"residence_time must be positive, not {residence_time}")
    T = inflow["T"]
    if not isinstance(T, nn.Parameter):
        T = torch.as_tensor(T, dtype=torch.float64)
    return Inflow(T, Y, residence_time)


def _solution(path: str | os.PathLike, phase: str, thermo: str | os.PathLike | None) -> Any:
    """The cantera.Solution of a file."""
    try:
        import cantera as package
    except ImportError as error:
        raise ImportError(
            "mechanisms need the package cantera: pip install 'torch-stiff-ode[cantera]'"
        ) from error
    if Path(path).suffix.lower() not in CHEMKIN:
        return _opened(package, str(path), phase)
    with tempfile.TemporaryDirectory() as folder:
        from cantera import ck2yaml

        made = Path(folder) / "mechanism.yaml"
        thermo_file = None
        if not Path(path).exists():
            raise FileNotFoundError(f"there is no mechanism file {path}: check the path")
        if thermo is not None:
            thermo_file = str(thermo)
        ck2yaml.convert(
            str(path),
            thermo_file=thermo_file,
            out_name=str(made),
            quiet=True,
            permissive=True,
        )
        return _opened(package, str(made), phase)


def _opened(package: Any, path: str, phase: str) -> Any:
    try:
        return package.Solution(path, phase)
    except package.CanteraError as error:
        # Cantera looks in the working directory and in its own ones.
        folders = [Path(folder) for folder in package.get_data_directories()]
        if not any((folder / path).exists() for folder in (Path(), *folders)):
            raise FileNotFoundError(_missing(path, folders)) from None
        raise ValueError(f"Cantera cannot read {path}: {_plain(str(error))}") from None


def _missing(path: str, folders: list[Path]) -> str:
    """The sentence for a mechanism that is nowhere."""
    known = sorted({file.name for folder in folders for file in folder.glob("*.yaml")})
    close = difflib.get_close_matches(Path(path).name, known, 3, 0.75)
    hint = "such as gri30.yaml"
    if close:
        hint = f"such as {', '.join(close)}"
    return (
        f"there is no mechanism file {path}: it is neither at this path nor among the files that"
        f" Cantera has, {hint}. Check the name, or give the path of the file"
    )


def _plain(text: str) -> str:
    """An error of Cantera on one line, without its frame of stars and its traces."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line.strip("* ") and not line.startswith("CanteraError")]
    return " ".join(kept)
