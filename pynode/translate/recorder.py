"""Records the operations of one call of f, on real tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .graph import BOOL, INT, REAL, Buffer, Constant, Graph, View, contiguous
from .guard import unguarded
from .operations import EMPTY, FACTORIES, RULES, Call
from .refusal import TranslationRefused, user_line

# These give a tensor another shape in place; its numbers stay.
_RESHAPED = frozenset("squeeze_ unsqueeze_ t_ transpose_".split())
_LIFT = frozenset({"lift_fresh", "lift", "lift_fresh_copy"})


class Recorder(TorchDispatchMode):
    """Turns the operations that run inside it into a Graph.

    real: the floating type of the field. replace: gives for a tensor from outside the one whose
    numbers the recording uses in its place (other parameters than the present ones). tables: ids of
    floating tensors whose numbers are constants of the code (tables.py). captured: the tensors
    that f uses and that are not its arguments, in the order of their first use.
    """

    def __init__(
        self,
        real: torch.dtype,
        replace: Callable[[Tensor], Tensor],
        tables: Collection[int] = (),
    ) -> None:
        super().__init__()
        self.graph = Graph()
        self.captured: list[Tensor] = []
        self._real = real
        self._replace = replace
        self._tables = tables
        self._views: dict[int, View] = {}
        self._held: list[Any] = []
        self._constant: set[Buffer] = set()
        self._substitutes: dict[int, Tensor] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not to import torch's compiler, which takes seconds."""
        return False

    # ------------------------------------------------------------------ inputs

    def declare(self, x: Tensor, role: str, index: int = 0) -> None:
        """Tell that x, contiguous, is an input with this role."""
        self._hold(x, Buffer(x.numel(), REAL, role, index), offset=0)

    def zeros(self, size: int) -> View:
        """The view of zeros: a derivative that vanishes."""
        view = contiguous(Buffer(size, REAL), (size,))
        self._write_constant(view, np.zeros(size))
        return view

    def view(self, x: Tensor) -> View:
        """The view of a tensor that the recording has met."""
        return self._view(x, "the result of f")

    def _hold(self, x: Tensor, buffer: Buffer, offset: int) -> View:
        view = View(buffer, offset, tuple(x.shape), tuple(x.stride()))
        self._views[id(x)] = view
        self._held.append(x)
        return view

    def _view(self, x: Tensor, name: str) -> View:
        known = self._views.get(id(x))
        if known is not None:
            return known
        return self._capture(x, name)

    def _capture(self, x: Tensor, name: str) -> View:
        """A tensor from outside: numbers read through a pointer; integers and tables as
        constants."""
        self._check_kind(x, name)
        self.captured.append(x)
        if x.dtype.is_floating_point and id(x) not in self._tables:
            replacement = self._replace(x)
            self._substitutes[id(x)] = replacement
            buffer = Buffer(_extent(x), REAL, "input", len(self.captured) - 1)
            return self._hold(x, buffer, offset=0)
        return self._bake(x)

    def _bake(self, x: Tensor) -> View:
        """A tensor whose numbers are constants of the code."""
        # As in its memory, because f can take views of it.
        view = self._hold(x, Buffer(_extent(x), _kind(x.dtype)), offset=0)
        self._write_constant(view, _numbers(x))
        return view

    def _check_kind(self, x: Tensor, name: str) -> None:
        if (
            x.layout != torch.strided
            or x.is_quantized
            or type(x)
            not in (
                Tensor,
                torch.nn.Parameter,
                torch.nn.Buffer,
            )
        ):
            raise TranslationRefused(
                f"f uses a tensor that is not an ordinary dense one ({type(x).__name__}, "
                f"{x.layout}), in {name}{user_line()}. Use dense tensors, or backend='torch'."
            )
        if x.device.type != "cpu":
            raise TranslationRefused(
                f"f uses a tensor on {x.device}, in {name}{user_line()}. Native code runs on the "
                "CPU: move f there."
            )
        if x.dtype.is_complex:
            raise TranslationRefused(
                f"f uses complex numbers, in {name}{user_line()}. Split them into real and "
                "imaginary parts."
            )
        if x.dtype.is_floating_point and x.dtype != self._real:
            raise TranslationRefused(
                f"f uses a tensor of type {x.dtype}, in {name}{user_line()}, but its state has "
                f"type {self._real}. Native code has one floating type: cast the tensor before "
                "the solve."
            )

    # -------------------------------------------------------------- operations

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        with unguarded():
            return self._record(func, args, kwargs or {})

    def _record(self, func: Any, args: tuple, kwargs: dict) -> Any:
        name = func._schema.name.removeprefix("aten::")
        self._check_random(func, name)
        if name in _LIFT:
            return self._lift(func, args)
        views: dict[int, View] = {}
        tensors: list[Tensor] = []

        def seen(x: Any) -> Any:
            if isinstance(x, Tensor):
                view = self._view(x, name)
                substitute = self._substitutes.get(id(x), x)
                views[id(substitute)] = view
                tensors.append(substitute)
                return substitute
            if isinstance(x, (list, tuple)):
                return type(x)(seen(item) for item in x)
            return x

        real_args = tuple(seen(x) for x in args)
        real_kwargs = {key: seen(x) for key, x in kwargs.items()}
        if name in _RESHAPED and views[id(real_args[0])].buffer.role is None:
            x = func(*real_args, **real_kwargs)
            old = views[id(x)]
            self._views[id(x)] = View(old.buffer, old.offset, tuple(x.shape), tuple(x.stride()))
            return x
        written = self._written(func, real_args, real_kwargs, views, name)
        constant = all(views[id(x)].buffer in self._constant for x in tensors)
        factory = name in FACTORIES
        if name in ("_local_scalar_dense", "equal", "is_nonzero") and not (constant and tensors):
            raise _refused(name)
        before = [x.untyped_storage()._cdata for x in tensors]
        if name == "_efficientzerotensor":
            # Its products are computed on tensors without numbers.
            func = torch.ops.aten.zeros.default
        result = func(*real_args, **real_kwargs)
        outs = result if isinstance(result, (list, tuple)) else [result]
        fresh = self._outputs(outs, tensors, before, views, written, name)
        if fresh is None:
            return result
        if name in EMPTY:
            for view in fresh:
                self._write_constant(view, np.zeros(view.shape))
        elif constant or factory:
            for x, view in zip((x for x in outs if isinstance(x, Tensor)), fresh):
                self._write_constant(view, _numbers(x))
        else:
            base = name[:-1] if written and name.endswith("_") else name
            rule = RULES.get(base)
            if rule is None or (written and base == name):
                raise _refused(name)
            bound = _bound(func._schema, real_args, real_kwargs)
            self._lower(rule, base, bound, views, fresh, outs)
        return result

    def _lower(
        self,
        rule: Callable[[Call], None],
        name: str,
        bound: dict[str, Any],
        views: dict[int, View],
        fresh: list[View],
        outs: Any,
    ) -> None:
        """Write the statements of an operation whose numbers depend on the inputs."""
        for x in outs:
            if isinstance(x, Tensor) and x.dtype.is_floating_point and x.dtype != self._real:
                # torch.where(condition, 2.0, 1.0) has torch's default type. Its numbers are known.
                numbers = [v for v in views.values() if v.buffer.kind == REAL]
                if name != "where" or any(v.buffer not in self._constant for v in numbers):
                    self._check_kind(x, name)
        for view in fresh:
            self._constant.discard(view.buffer)
        rule(Call(self.graph.statements, name, bound, views, fresh, self._constant))

    def _check_random(self, func: Any, name: str) -> None:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise TranslationRefused(
                f"f draws random numbers ({name}{user_line()}). Native code needs a deterministic "
                "f: call eval() on the module, or draw the numbers outside f."
            )

    def _lift(self, func: Any, args: tuple) -> Tensor:
        """torch.tensor(...) inside f: its numbers are constants."""
        result = func(*args)
        if result.dtype.is_complex:
            self._check_kind(result, "torch.tensor")
        self._bake(result)
        return result

    def _written(
        self, func: Any, args: tuple, kwargs: dict, views: dict[int, View], name: str
    ) -> list[Tensor]:
        """The tensors that the operation changes in place."""
        written = []
        for place, argument in enumerate(func._schema.arguments):
            alias = argument.alias_info
            if alias is None or not alias.is_write:
                continue
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            if not isinstance(value, Tensor):
                continue
            role = views[id(value)].buffer.role
            if role is not None:
                raise _changed(role, name)
            if any(value is x for x in self.captured):
                raise _changed("input", name)
            written.append(value)
        return written

    def _outputs(
        self,
        outs: Any,
        tensors: list[Tensor],
        before: list[int],
        views: dict[int, View],
        written: list[Tensor],
        name: str,
    ) -> list[View] | None:
        """The views of the results; None if they are only views of the arguments."""
        if written:
            return [views[id(x)] for x in written]
        fresh: list[View] = []
        only_views = True
        for out in outs:
            if not isinstance(out, Tensor):
                continue
            if id(out) in views:
                continue
            self._check_result(out, name)
            storage = out.untyped_storage()._cdata
            if storage in before:
                source = tensors[before.index(storage)]
                base = views[id(source)]
                shift = int(out.storage_offset()) - int(source.storage_offset())
                self._views[id(out)] = View(
                    base.buffer, base.offset + shift, tuple(out.shape), tuple(out.stride())
                )
                self._held.append(out)
                continue
            only_views = False
            buffer = Buffer(_extent(out), _kind(out.dtype), None)
            fresh.append(self._hold(out, buffer, offset=0))
        if only_views:
            return None
        return fresh

    def _check_result(self, out: Tensor, name: str) -> None:
        if out.dtype.is_complex or out.layout != torch.strided:
            self._check_kind(out, name)

    def _write_constant(self, view: View, data: np.ndarray) -> None:
        self._constant.add(view.buffer)
        self.graph.statements.append(Constant(view, data))


def _bound(schema: Any, args: tuple, kwargs: dict) -> dict[str, Any]:
    """The arguments of an operation by their names, with the defaults."""
    bound = {}
    for place, argument in enumerate(schema.arguments):
        if place < len(args):
            bound[argument.name] = args[place]
        elif argument.name in kwargs:
            bound[argument.name] = kwargs[argument.name]
        else:
            bound[argument.name] = argument.default_value
    return bound


class Substituted(TorchDispatchMode):
    """Runs operations with other tensors in the place of some: other parameters for one call."""

    def __init__(self, replace: Callable[[Tensor], Tensor], tensors: list[Tensor]) -> None:
        super().__init__()
        self._places = {id(x): replace(x) for x in tensors}
        self._held = tensors

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not to import torch's compiler, which takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        def put(x: Any) -> Any:
            if isinstance(x, Tensor):
                return self._places.get(id(x), x)
            if isinstance(x, (list, tuple)):
                return type(x)(put(item) for item in x)
            return x

        return func(*map(put, args), **{name: put(x) for name, x in (kwargs or {}).items()})


def _extent(x: Tensor) -> int:
    """How many numbers of memory a tensor spans."""
    if not x.numel():
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride()))


def _kind(dtype: torch.dtype) -> str:
    if dtype == torch.bool:
        return BOOL
    if dtype.is_floating_point:
        return REAL
    return INT


def _numbers(x: Tensor) -> np.ndarray:
    x = x.detach()
    if x.dtype.is_floating_point:
        x = x.to(torch.float64)
    return np.array(x.resolve_conj().resolve_neg().numpy())


def _refused(name: str) -> TranslationRefused:
    if name in ("_local_scalar_dense", "is_nonzero", "equal"):
        return TranslationRefused(
            f"f turns a tensor into a Python number ({name}{user_line()}): float(x), x.item() or "
            "`if` on a value. Native code cannot follow this: use torch.where, and tensors."
        )
    return TranslationRefused(
        f"Native code does not have the operation {name}{user_line()}. Use backend='torch', or "
        "write this part with other operations."
    )


def _changed(role: str, name: str) -> TranslationRefused:
    what = {"y": "the state", "t": "the time", "v": "a cotangent"}.get(
        role, "a parameter, a buffer or another tensor from outside"
    )
    return TranslationRefused(
        f"f changes {what} in place ({name}{user_line()}). Make a new tensor instead."
    )
