"""The network to learn, and its file. The file contains only numbers and names, so that opening it
cannot run code."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.memory import raise_if_exhausted
from ..core.sealed_files import save_torch, unsealed
from .laws import Known, Laws
from .moves import directions
from .scaling import PhysicalField, ScaledField, Scaling

# Since format 2 a file ends with its checksum.
FORMAT = 2
READ = (1, 2)
ACTIVATIONS = {
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
}


class ModelError(ValueError):
    """A model or checkpoint file that cannot be used. The message says why and what to do."""


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    activation: str,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """A float64 perceptron with layers of the widths in ``hidden``. Raises ValueError for an
    unknown activation or a bad width.

    Weights are Glorot-uniform (Glorot & Bengio 2010), drawn from ``generator``. Biases are zero.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}"
        )
    if not hidden or any(int(width) != width or width < 1 for width in hidden):
        raise ValueError(
            f"hidden must be widths of at least one layer, such as 64,64, not {hidden!r}"
        )
    widths = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layer = nn.Linear(a, b, dtype=torch.float64)
        bound = math.sqrt(6 / (a + b))
        with torch.no_grad():
            layer.weight.copy_(
                bound * (2 * torch.rand(b, a, dtype=torch.float64, generator=generator) - 1)
            )
            layer.bias.zero_()
        layers += [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def count_outputs(n: int, laws: Laws, gated: bool) -> int:
    """The number of outputs of a network for n states. Raises ValueError if the laws need too
    many."""
    if laws.both:
        moves = len(directions(laws)[0])
        return moves * (1 + gated)
    return n * (1 + gated + any(laws.positive))


def build(
    architecture: dict[str, Any],
    scaling: Scaling,
    generator: torch.Generator | None = None,
    known: Known | None = None,
) -> ScaledField:
    """The field that plain data describe. architecture: {'hidden': [64, 64], 'activation': 'gelu',
    'time_input': False}, and the data of ``Laws``. known: a known part of dy/dt."""
    n = len(scaling.y_scale)
    laws = Laws.from_dict(architecture)
    outputs = count_outputs(n, laws, scaling.kind == "decades")
    width = n + architecture["time_input"]
    if scaling.inputs is not None:
        width += len(scaling.inputs.names)
    net = mlp(
        width,
        architecture["hidden"],
        outputs,
        architecture["activation"],
        generator,
    )
    return ScaledField(net, scaling, architecture["time_input"], laws, known)


def describe(
    field: ScaledField,
    architecture: dict[str, Any],
    columns: Sequence[str],
    y0: torch.Tensor | Sequence[float],
    t_eval: torch.Tensor | Sequence[float],
    starts: dict[str, list[float]] | None = None,
    time_unit: str = "",
) -> dict[str, Any]:
    """Everything that ``load_model`` needs, as plain data and tensors. starts: learned ones, by the
    names of the trajectories. time_unit: of the data, '' if unknown."""
    return {
        "format": FORMAT,
        "architecture": architecture,
        "scaling": field.scaling.as_dict(),
        "columns": list(columns),
        "y0": torch.as_tensor(y0).tolist(),
        "t_eval": torch.as_tensor(t_eval).tolist(),
        "starts": starts or {},
        "time_unit": time_unit,
        "state_dict": field.net.state_dict(),
    }


def save_model(path: str | PathLike[str], description: dict[str, Any]) -> None:
    """Write a description atomically. Raises OSError if the disk refuses; the earlier file then
    remains."""
    save_torch(path, description)


def load_model(
    path: str | PathLike[str], known: Callable[[Any, torch.Tensor], torch.Tensor] | None = None
) -> PhysicalField:
    """The learned field in the units of its data, with y0, tspan, t_eval and columns.

    known: the known part of dy/dt with which the field was trained (``--known``). A model file
    never contains code, so give the function again.

    Loads with weights_only=True: a file that asks to run code is refused. Raises ModelError if the
    file cannot be used.
    """
    plain = load_plain(path, "model")
    name = plain.get("architecture", {}).get("known", "")
    if bool(name) != (known is not None):
        if name:
            raise ModelError(
                f"{path} has a known part, {name}, whose code is not in the file: give the function"
                " again, load_model(path, known=f)."
            )
        raise ModelError(f"{path} was trained without a known part: leave known out.")
    try:
        scaling = Scaling.from_dict(plain["scaling"])
        part = None
        if known is not None:
            part = Known(known, plain["architecture"]["observed"])
        field = build(plain["architecture"], scaling, known=part)
        field.net.load_state_dict(plain["state_dict"])
        starts = plain.get("starts", {})
        unit = plain.get("time_unit", "")
        return PhysicalField(field, plain["columns"], plain["y0"], plain["t_eval"], starts, unit)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise_if_exhausted(error)
        raise ModelError(
            f"{path} does not describe a whole model ({_first_line(error)}): train it again."
        ) from None


def load_plain(path: str | PathLike[str], what: str) -> dict[str, Any]:
    """The dictionary in a file of this format. Loading it runs no code. Raises ModelError if it
    cannot be loaded."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"there is no {what} file {path}: check the name, or train first."
        ) from None
    except (IsADirectoryError, PermissionError) as error:
        raise ModelError(
            f"{path} cannot be opened ({error.strerror}): give the path of a {what} file."
        ) from None
    try:
        content = unsealed(content)
        sealed = True
    except ValueError:
        sealed = False
    try:
        plain = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    # On bytes that are not a torch file, its reader can raise anything.
    except Exception as error:
        refused = "is"
        if isinstance(error, pickle.UnpicklingError):
            refused = "asks to run code, which is refused, or is"
        raise ModelError(
            f"{path} {refused} damaged or not a {what} file of pynode: restore it from a copy or"
            " train again."
        ) from error
    if not isinstance(plain, dict) or "format" not in plain:
        raise ModelError(f"{path} is not a {what} file of pynode: it has no format number.")
    if plain["format"] not in READ:
        raise ModelError(
            f"{path} has format {plain['format']!r}, and this pynode reads formats"
            f" {' and '.join(map(str, READ))}: use the version of pynode that wrote it, or train"
            " again."
        )
    if not (sealed or (plain["format"] == 1 and _sums_hold(content))):
        raise ModelError(
            f"{path} is damaged: its checksum does not match its content. Restore it from a copy or"
            " train again."
        )
    return plain


def _sums_hold(content) -> bool:
    """Whether the checksums of an archive match its members. torch does not check them."""
    try:
        return zipfile.ZipFile(io.BytesIO(content)).testzip() is None
    except zipfile.BadZipFile:
        return False


def _first_line(error) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:160].rstrip(".")
