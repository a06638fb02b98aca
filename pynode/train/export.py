"""A learned field for those who do not have pynode: as a program of torch.export, and as a plain
PyTorch file."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.files import save_text
from .scaling import OFFSET, SLOPE, PhysicalField

# The coordinates of ``Warp`` in a plain PyTorch file.
_WARPED = '''\
def warped(y):
    """The coordinates in which the field was learned, and dy/dz, (..., n) each."""
    found = []
    for kind, size, x in zip(KINDS, SIZES, y.unbind(-1)):
        if kind == "log":
            x = x.clamp(min=1e-6 * size)
            found.append((torch.log(x / size), x))
        elif kind == "arcsinh":
            found.append((torch.asinh(x / size), (x * x + size * size).sqrt()))
        else:
            found.append((x, torch.ones_like(x)))
    return tuple(torch.stack(parts, -1) for parts in zip(*found))

'''.splitlines()

# ``Balance`` in these coordinates.
_BALANCED = '''\
def balanced(rates, stretch):
    """The rates without the part that changes the conserved sums."""
    units = []
    for row in numbers(ROWS):
        unit = row * stretch
        for other in units:
            unit = unit - other * (other * unit).sum(-1, keepdim=True)
        unit = unit / ((unit * unit).sum(-1, keepdim=True) + 1e-300).sqrt()
        units.append(unit)
        rates = rates - unit * (unit * rates).sum(-1, keepdim=True)
    return rates

'''.splitlines()


class _Rows(nn.Module):
    """dy/dt of K rows of times, states and inputs, in the units of the data."""

    def __init__(self, field: PhysicalField) -> None:
        super().__init__()
        self.field = field

    def forward(self, t: Tensor, y: Tensor, u: Tensor | None = None) -> Tensor:
        field = self.field
        w = None
        if u is not None:
            assert field.field.scaling.inputs is not None
            w = field.field.scaling.inputs.scaled(u)
        return field.rates(t, y, w)


def export_program(field: PhysicalField, path: str | PathLike[str]) -> Path:
    """Write dy/dt as a program of torch.export, which ``torch.export.load(path).module()`` reads
    without pynode. Returns the path.

    The program takes t, (K,), y, (K, n), and u, (K, m), if the field has inputs, in the units of
    the data, for any K from 2 on.
    """
    example: list[Tensor] = [field.y0.new_zeros(3), field.y0.expand(3, -1).clone()]
    if field.inputs:
        example.append(field.y0.new_zeros(3, len(field.inputs)))
    rows = torch.export.Dim("rows", min=2)
    shapes = tuple({0: rows} for _ in example)
    # Strict tracing does not see into plain Python attributes of a module.
    program = torch.export.export(_Rows(field), tuple(example), dynamic_shapes=shapes, strict=False)
    torch.export.save(program, str(path))
    return Path(path)


def write_pytorch(field: PhysicalField, path: str | PathLike[str]) -> Path:
    """Write a Python file with the field as a module, ``Field``, its start ``Y0`` and its times
    ``TSPAN``, which needs nothing but PyTorch. Returns the path. Raises ValueError for a field with
    a known part, whose code pynode does not write.
    """
    return save_text(path, pytorch_source(field))


def pytorch_source(field: PhysicalField) -> str:
    """The text of the file of ``write_pytorch``."""
    scaled = field.field
    if scaled.known is not None:
        raise ValueError(
            "this field has a known part, whose code pynode cannot write: use export_program"
        )
    weights = {name: value.tolist() for name, value in scaled.net.state_dict().items()}
    numbers: dict[str, Any] = {
        "STATES": list(field.columns),
        "Y0": field.y0.tolist(),
        "TSPAN": list(field.tspan),
        "Y_MIN": field.y_min.tolist(),
        "Y_SCALE": field.y_scale.tolist(),
        "RATE": scaled.rate.tolist(),
    }
    if field.inputs:
        inputs = scaled.scaling.inputs
        assert inputs is not None
        numbers |= {"INPUTS": list(inputs.names), "U_LOW": inputs.low, "U_SIZE": inputs.size}
    if scaled.time_input:
        numbers |= {"T_START": scaled.scaling.t_start, "T_LENGTH": scaled.scaling.t_span}
    if scaled.some_positive:
        numbers["POSITIVE"] = scaled.positive.tolist()
    if scaled.scaling.warp is not None:
        numbers |= {"KINDS": scaled.scaling.warp.kinds, "SIZES": scaled.scaling.warp.sizes}
    numbers |= _law_numbers(scaled)
    arguments = "t, y, u" if field.inputs else "t, y"
    count = len(field.columns)
    lines = [
        '"""dy/dt that was learned from data, in their units. It needs only PyTorch."""',
        "",
        "import torch",
        "from torch import nn",
        "",
        *(f"{name} = {value!r}" for name, value in numbers.items()),
        f"WEIGHTS = {weights!r}",
        "",
        "",
        "def numbers(x):",
        "    return torch.tensor(x, dtype=torch.float64)",
        "",
        "",
        *(_WARPED if scaled.scaling.warp is not None else []),
        *_balancing(scaled),
        "class Field(nn.Module):",
        f'    """dy/dt, (..., {count}), at times t and states y in the order STATES."""',
        "",
        "    def __init__(self):",
        "        super().__init__()",
        "        self.net = nn.Sequential(",
        *(f"            {_layer(layer)}," for layer in scaled.net.children()),
        "        ).double()",
        "        weights = {name: numbers(value) for name, value in WEIGHTS.items()}",
        "        self.net.load_state_dict(weights)",
        "",
        f"    def forward(self, {arguments}):",
        *(f"        {line}" for line in _formula(scaled, bool(field.inputs))),
        "",
    ]
    return "\n".join(lines)


def _layer(layer) -> str:
    """A layer of a perceptron as Python source."""
    if isinstance(layer, nn.Linear):
        return f"nn.Linear({layer.in_features}, {layer.out_features})"
    return f"nn.{type(layer).__name__}()"


def _formula(scaled, inputs) -> list[str]:
    """The lines of forward; they are those of ``ScaledField``."""
    warp = scaled.scaling.warp
    lines = []
    if warp is not None:
        lines.append("y, stretch = warped(y)")
    lines.append("x = (y - numbers(Y_MIN)) / numbers(Y_SCALE)")
    parts = ["x"]
    if inputs:
        lines.append("w = (u - numbers(U_LOW)) / numbers(U_SIZE)")
        parts.append("w.expand(*x.shape[:-1], w.shape[-1])")
    if scaled.time_input:
        lines.append("s = (torch.as_tensor(t, dtype=x.dtype) - T_START) / T_LENGTH")
        parts.append("s.unsqueeze(-1).expand(*x.shape[:-1], 1)")
    if len(parts) > 1:
        lines.append(f"out = self.net(torch.cat(({', '.join(parts)}), -1))")
    else:
        lines.append("out = self.net(x)")
    if scaled.moves is not None:
        lines += _moved(scaled)
    else:
        lines += _rated(scaled)
    if warp is None:
        lines.append("return numbers(Y_SCALE) * rates")
    else:
        lines.append("return numbers(Y_SCALE) * rates * stretch")
    return lines


def _rated(scaled) -> list[str]:
    """The lines that make rates of outputs, one or more for each state."""
    lines = ["n = len(STATES)", "rates = out[..., :n]"]
    if scaled.some_positive:
        lines += [
            "softplus = nn.functional.softplus",
            "v = x + numbers(Y_MIN) / numbers(Y_SCALE)",
            "safe = softplus(rates) - v * softplus(out[..., n : 2 * n])",
            "rates = torch.where(torch.tensor(POSITIVE), safe, rates)",
        ]
    lines.append("rates = numbers(RATE) * rates")
    if scaled.gated:
        lines.append(f"rates = rates * torch.sigmoid({SLOPE} * out[..., -n:] + {OFFSET})")
    if scaled.balance is not None and scaled.balance.warped:
        lines.append("rates = balanced(rates, stretch)")
    elif scaled.balance is not None:
        lines.append("rates = rates - (rates.unsqueeze(-2) * numbers(PROJECTOR)).sum(-1)")
    return lines


def _moved(scaled) -> list[str]:
    """The lines that make rates of outputs, one or two for each move, as ``Moves`` does."""
    lines = [
        "m = len(ONE_WAY)",
        "v = out[..., :m]",
        "v = torch.where(torch.tensor(ONE_WAY), nn.functional.softplus(v), v)",
        "share = (y / numbers(TOP)).unsqueeze(-2)",
        "for consumed, nothing in zip(CONSUMED, NOTHING):",
        "    v = v * ((numbers(consumed) * share).sum(-1) + numbers(nothing))",
    ]
    if scaled.gated:
        lines.append(f"v = v * torch.sigmoid({SLOPE} * out[..., m:] + {OFFSET})")
    return [*lines, "rates = (numbers(MOVES) * v.unsqueeze(-2)).sum(-1)"]


def _balancing(scaled) -> list[str]:
    """The lines of the function that holds conserved sums in other coordinates, if it is needed."""
    if scaled.balance is not None and scaled.balance.warped:
        return _BALANCED
    return []


def _law_numbers(scaled) -> dict[str, Any]:
    """The constants of conserved sums."""
    moves = scaled.moves
    if moves is not None:
        return {
            "MOVES": moves.moves.tolist(),
            "ONE_WAY": moves.one_way.tolist(),
            "TOP": moves.top.tolist(),
            "CONSUMED": [getattr(moves, name).tolist() for name, _ in moves.names],
            "NOTHING": [getattr(moves, name).tolist() for _, name in moves.names],
        }
    if scaled.balance is None:
        return {}
    if scaled.balance.warped:
        return {"ROWS": scaled.balance.rows.tolist()}
    return {"PROJECTOR": scaled.balance.projector.tolist()}
