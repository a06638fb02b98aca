"""Converts nested states (tensor, tuple, list, dict) to one flat vector and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .state_names import spread

# The user's state: a tensor, or nested containers of tensors.
State: TypeAlias = "Tensor | tuple[State, ...] | list[State] | dict[str, State]"


# Kinds of devices on which torch makes no float64 tensors.
WITHOUT_FLOAT64 = ("mps",)


class Layout:
    """The layout of a nested state in a flat vector of length ``size``.

    The leaves are tensors of one floating dtype and device, in the order of the structure (dicts by
    sorted keys). Raise TypeError for a leaf that is not a tensor, and ValueError if dtypes or
    devices differ.

    named: what a user or a field calls the components, or the last dimension of a single tensor;
    None for their places.

    units, time_unit: of the components that have names, and of the time, for pictures and tables;
    '' where a unit is unknown, and () for no units.
    """

    units: tuple[str, ...] = ()
    time_unit = ""

    def __init__(self, state: State, named: Sequence[str] | None = None) -> None:
        leaves: list[Tensor] = []
        self._spec = _describe(state, leaves, "y0")
        if not leaves:
            raise ValueError("y0 holds no tensor: give a tensor, or a tuple or dict of tensors")
        first = leaves[0]
        for leaf in leaves:
            if leaf.is_complex():
                raise TypeError(
                    f"y0 has dtype {leaf.dtype}, but a state must be real: hold it as "
                    "torch.view_as_real(y0), and let f take torch.view_as_complex(y)"
                )
            if not leaf.dtype.is_floating_point:
                raise TypeError(
                    f"y0 has dtype {leaf.dtype}, but a state must be floating point: use"
                    " y0.double() or y0.float()"
                )
            if leaf.dtype != first.dtype or leaf.device != first.device:
                raise ValueError(
                    f"the parts of y0 disagree: {leaf.dtype} on {leaf.device} beside {first.dtype}"
                    f" on {first.device}; convert them to one dtype and one device"
                )
            if leaf.layout is not torch.strided or leaf.is_meta:
                raise TypeError(
                    "y0 must be dense and hold values: use y0.to_dense(), and no tensor on the meta"
                    " device"
                )
        if first.device.type in WITHOUT_FLOAT64:
            raise ValueError(
                f"y0 is on {first.device}, which has no float64, and pynode keeps its times in"
                " float64: move y0, the field and args to the CPU, y0.cpu() and module.cpu()"
            )
        self.shapes = [leaf.shape for leaf in leaves]
        self.sizes = [leaf.numel() for leaf in leaves]
        self.size = sum(self.sizes)
        self.dtype = first.dtype
        self.device = first.device
        self.single = isinstance(state, torch.Tensor)
        self.flat = self.single and first.dim() == 1
        self.key = self._spec, tuple(self.shapes)  # equal for states of the same structure
        self._named: tuple[str, ...] | None = None
        if named is not None and len(named) == self.size:
            self._named = tuple(named)
        elif named is not None and self.single:
            self._named = spread(named, self.shapes[0])

    @classmethod
    def described(
        cls, structure: Any, shapes: Sequence[Any], dtype: torch.dtype, named: Sequence[str] | None
    ) -> Layout:
        """The layout whose ``structure`` and ``shapes`` these are, as lists of plain values."""
        parts = iter([torch.zeros(tuple(shape), dtype=dtype) for shape in shapes])
        return cls(_rebuild(structure, parts), named)

    @property
    def structure(self) -> Any:
        """The structure of the state in plain values."""
        return self._spec

    def ravel(self, state: State) -> torch.Tensor:
        """The flat vector, (size,), of a state of this structure and these shapes. Raise ValueError
        or TypeError for other states."""
        if self.flat and isinstance(state, torch.Tensor) and state.shape == self.shapes[0]:
            return state
        leaves: list[Tensor] = []
        spec = _describe(state, leaves, "the vector field's result")
        if spec != self._spec:
            raise TypeError(
                f"the vector field must return the structure of y0, {_show(self._spec)}, not"
                f" {_show(spec)}"
            )
        for leaf, shape in zip(leaves, self.shapes):
            check_values(leaf, "the vector field's result")
            if leaf.shape != shape:
                raise ValueError(
                    f"the vector field returned shape {tuple(leaf.shape)} where y0 has shape"
                    f" {tuple(shape)}; dy/dt must have the shape of y"
                )
        if self.single:
            return leaves[0].reshape(-1)
        self._check_one_dtype(leaves)
        return torch.cat([leaf.reshape(-1) for leaf in leaves])

    def ravel_rows(self, state: State, rows: int) -> torch.Tensor:
        """(rows, size) of a state of this structure. Every leaf has a leading dimension of this
        number of rows.

        Raise TypeError or ValueError for other states.
        """
        leaves: list[Tensor] = []
        spec = _describe(state, leaves, "the vector field's result")
        if spec != self._spec:
            raise TypeError(
                f"the vector field must return the structure of y0, {_show(self._spec)}, not"
                f" {_show(spec)}"
            )
        for leaf, shape in zip(leaves, self.shapes):
            check_values(leaf, "the vector field's result")
            if leaf.shape != (rows, *shape):
                raise ValueError(
                    f"the vector field returned shape {tuple(leaf.shape)} for {rows} rows of shape"
                    f" {tuple(shape)}; dy/dt must have the shape of y"
                )
        self._check_one_dtype(leaves)
        return torch.cat([leaf.reshape(rows, -1) for leaf in leaves], dim=1)

    @staticmethod
    def _check_one_dtype(leaves):
        """Raise TypeError if the leaves differ in dtype. Concatenation would hide a leaf of lower
        precision."""
        first = leaves[0].dtype
        for leaf in leaves:
            if leaf.dtype != first:
                raise TypeError(
                    f"the vector field returned parts of {first} and of {leaf.dtype}; return all in"
                    " the dtype of y0"
                )

    @property
    def has_names(self) -> bool:
        """Whether a user or a field has named the components."""
        return self._named is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all components of the flat vector: those given, else 'y[2]' for a tensor,
        'mass[0, 1]' for a dict, "y[1]['mass']" for other structures."""
        if self._named is not None:
            return self._named
        if self.single or self._spec[0] != "dict":
            leaves = [f"y{path}" for path in _paths(self._spec)]
        else:
            leaves = [f"{key}{path}" for key, item in self._spec[1:] for path in _paths(item)]
        parts = zip(leaves, self.shapes, self.sizes, strict=True)
        return tuple(
            _with_index(leaf, i, shape) for leaf, shape, size in parts for i in range(size)
        )

    def component(self, i: int) -> str:
        """The name of component i of the flat vector in messages: the name given, else its place in
        the state, 'y[2]' or "y['mass'][0, 1]"."""
        if self._named is not None:
            return self._named[i]
        for path, shape, size in zip(_paths(self._spec), self.shapes, self.sizes):
            if i < size:
                return _with_index(f"y{path}", i, shape)
            i -= size
        raise IndexError("the state has no such component")

    def unravel(self, flat: Tensor) -> Any:
        """The state of a flat vector (..., size). Leading dimensions stay in front of every
        leaf."""
        if self.flat:
            return flat
        lead = flat.shape[:-1]
        if self.single:
            return flat.reshape(lead + self.shapes[0])
        parts = iter(
            [part.reshape(lead + s) for part, s in zip(flat.split(self.sizes, dim=-1), self.shapes)]
        )
        return _rebuild(self._spec, parts)


def in_order(state: Any) -> list[Any]:
    """The leaves of a nested state, tensors or arrays, in the order of the flat vector."""
    if isinstance(state, dict):
        return [leaf for key in sorted(state, key=str) for leaf in in_order(state[key])]
    if isinstance(state, (tuple, list)):
        return [leaf for part in state for leaf in in_order(part)]
    return [state]


def joined(state: Any, lead: int) -> Any:
    """The components of a nested state of tensors or arrays as one, (..., n). lead: how many
    dimensions stand in front of each leaf."""
    parts = [leaf.reshape(*leaf.shape[:lead], -1) for leaf in in_order(state)]
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts, -1)
    return np.concatenate(parts, -1)


def check_values(out: Tensor, what: str) -> None:
    """Raise TypeError if a result has no dense values."""
    if out.is_meta:
        raise TypeError(
            f"{what} is on the meta device, which holds no values: make it on that of y"
        )
    if out.layout is not torch.strided:
        raise TypeError(f"{what} is sparse ({out.layout}): return a dense tensor, with .to_dense()")


def _describe(state, leaves, what):
    """A hashable description of the structure. Appends the tensors to leaves."""
    if isinstance(state, torch.Tensor):
        leaves.append(state)
        return "tensor"
    if isinstance(state, (tuple, list)):
        return ("tuple",) + tuple(_describe(item, leaves, what) for item in state)
    if isinstance(state, dict):
        return ("dict",) + tuple(
            (key, _describe(state[key], leaves, what)) for key in sorted(state, key=str)
        )
    raise TypeError(
        f"{what} must be a tensor, or a tuple or dict of tensors, not {type(state).__name__}"
    )


def _rebuild(spec, parts):
    if spec == "tensor":
        return next(parts)
    if spec[0] == "tuple":
        return tuple(_rebuild(item, parts) for item in spec[1:])
    return {key: _rebuild(item, parts) for key, item in spec[1:]}


def _paths(spec) -> list:
    """The path from the state to each leaf, in order: "['mass'][1]"."""
    if spec == "tensor":
        return [""]
    if spec[0] == "tuple":
        items = enumerate(spec[1:])
    else:
        items = spec[1:]
    return [f"[{key!r}]{rest}" for key, item in items for rest in _paths(item)]


def _with_index(leaf, i, shape) -> str:
    """The name of component i of a leaf."""
    index = ", ".join(map(str, _unravel_index(i, shape)))
    if index:
        return f"{leaf}[{index}]"
    return leaf


def _unravel_index(i, shape) -> list:
    index: list[int] = []
    for extent in reversed(shape):
        i, k = divmod(i, extent)
        index.insert(0, k)
    return index


def _show(spec) -> str:
    if spec == "tensor":
        return "a tensor"
    if spec[0] == "tuple":
        return f"a tuple of {len(spec) - 1}"
    return f"a dict with keys {[key for key, _ in spec[1:]]}"
