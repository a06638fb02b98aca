"""The native functions of a vector field, with the tensors of one solve."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_not
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ...core.status import RejectStep
from ...translate import NativeField, TranslationRefused, translate
from .mass import NativeMass

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ...core.layout import Layout
    from ...core.vector_field import VectorField


class FlatCall:
    """Calls f with a flat state, (n,), as the translator records it (translate/field.Frame).

    layout: of the user's state. structure: of args; the call gets their leaves. mask: (n,) bool,
    the components that f sees as zero where they are negative, or None. rows: whether f takes rows
    of a batch; it then gets a batch of one row.
    """

    outputs: int | None = None

    def __init__(self, layout: Layout, structure: Any, mask: Tensor | None, rows: bool) -> None:
        self.layout = layout
        self.structure = structure
        self.rows = rows
        # A mask of numbers, because the translator reads no bool from memory.
        self.positive: Tensor | None = None
        masked = None
        if mask is not None:
            self.positive = mask.to(layout.dtype)
            masked = tuple(mask.tolist())
        self.key: tuple[Hashable, ...] = (repr(layout.key), repr(structure), masked, rows)

    def __call__(self, f: Callable, t: Tensor, y: Tensor, *leaves: Any) -> Tensor:
        args = pytree.tree_unflatten(list(leaves), self.structure)
        if self.positive is not None:
            y = torch.where(self.positive * y < 0, torch.zeros_like(y), y)
        if self.rows:
            rank = 1
            if self.layout.single:
                rank = max(1, len(self.layout.shapes[0]))
            t = t.reshape((1,) * (1 + rank))
            y = y.unsqueeze(0)
        return self.joined(f(t, self.layout.unravel(y), *args))

    def joined(self, out: Any) -> Tensor:
        """What f returned as one vector."""
        if self.rows:
            return self.layout.ravel_rows(out, 1).squeeze(0)
        return self.layout.ravel(out)


class BoundField:
    """A NativeField with the tensors of one solve.

    targets: the tensors that the native functions read, in their order. mass: the mass matrix, or
    None. It has what
    backends/native/solve.py asks of a field. The numbers stay those of the solve, even if a
    parameter gets other memory.
    """

    def __init__(self, native: NativeField) -> None:
        self.n = native.n
        self.dtype = native.dtype
        self.targets = native.targets
        self.differentiable = native.differentiable
        self.function = native.function
        self.pattern = native.pattern
        self.python_source = native.python_source
        self.kept = native.kept
        self.mass: NativeMass | None = None
        _check_apart(native.targets)
        self._held = [x.detach() for x in native.targets]
        self._addresses = np.array([x.data_ptr() for x in self._held], dtype=np.int64)

    def pointers(self) -> tuple[np.ndarray, list[Tensor]]:
        """The addresses of the numbers of the targets, and what keeps them alive."""
        return self._addresses, self._held


def _check_apart(targets):
    """Refuse tensors of which one is computed from another: torch's derivatives in the second would
    contain those through the first."""
    computed = [x for x in targets if x.grad_fn is not None]
    if not computed:
        return
    known = {id(x) for x in targets if x.grad_fn is None}
    nodes = {x.grad_fn for x in computed}
    todo = [edge[0] for x in computed for edge in x.grad_fn.next_functions]
    seen = set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in nodes or id(getattr(node, "variable", None)) in known:
            raise TranslationRefused(
                "f uses a tensor and another one that was computed from it outside of f. Native"
                " code would mix their gradients: compute the second inside f"
            )
        todo += [edge[0] for edge in node.next_functions]


def native_field(field: VectorField, t0: float, y0: Tensor) -> BoundField:
    """The native functions of a VectorField for states like y0, (n,), with its present tensors.

    Raise TranslationRefused, with a sentence, if f cannot become native code.
    """
    leaves, structure = pytree.tree_flatten(field.args)
    frame = None
    # Equal numbers are not enough: a list with one tensor in it is one leaf.
    nested = len(leaves) != len(field.args) or any(map(is_not, leaves, field.args))
    if not field.flat or field.nonnegative_mask is not None or nested:
        frame = FlatCall(field.layout, structure, field.nonnegative_mask, rows=False)
    try:
        bound = translated(field.f, leaves, frame, t0, y0)
        bound.mass = NativeMass.of(field.mass)
        bound.function("f")
        return bound
    except TranslationRefused:
        # What f returns may be wrong for every engine: that error says more.
        field.initial_slope(t0, y0)
        raise


def refusal(f: Callable, y0: Tensor, t0: float) -> str:
    """Why f(t, y) of a flat y, (n,), and its derivatives cannot become native code; '' if they
    can."""
    try:
        native = translate(f, y0.detach(), t0)
        for name in ("f", "jac_kept", "add_pullback"):
            native.function(name)
    except (TranslationRefused, RejectStep) as reason:
        return str(reason)
    return ""


def translated(
    f: Callable, leaves: list[Any], frame: FlatCall | None, t0: float, y0: Tensor
) -> BoundField:
    """The same for a function and the leaves of its arguments."""
    try:
        return BoundField(translate(f, y0.detach(), t0, leaves, frame))
    except RejectStep:
        raise TranslationRefused(
            "f raises RejectStep, which native code cannot follow: use the domain of the solve, or"
            " backend='torch'"
        ) from None
    except TranslationRefused as refusal:
        if "backend=" in str(refusal):
            raise
        raise TranslationRefused(f"{refusal} Or use backend='torch'.") from None
