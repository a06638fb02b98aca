"""The native code of one vector field: made when it is asked for, and kept."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from . import store
from .derivatives import Point, Recording, record_derivatives, record_value
from .graph import Graph
from .guard import check_hooks
from .key import Walk
from .machine import Loaded, compiled, processor
from .programs import Programs, layout
from .refusal import TranslationRefused
from .verify import Comparison, Probe

REAL_TYPES = {torch.float64: "double", torch.float32: "float"}


@dataclass(frozen=True)
class NativeFunction:
    """A native function: void (double t, T* y, T* v, T** inputs, T* out, T* work).

    address: where it begins. size: how many numbers it writes to out. work: how many it uses of
    work. loaded: keeps the code in memory.
    """

    address: int
    size: int
    work: int
    loaded: Loaded


class Frame(Protocol):
    """frame(f, t, y, *args): how f is called with a flat state. Frames with equal keys do the
    same.

    outputs: how many numbers f returns. It then has no derivatives: the only function is "f". None:
    as many as the state has, with all functions.
    """

    @property
    def outputs(self) -> int | None: ...

    @property
    def key(self) -> Hashable:
        """Plain data: numbers, strings and tuples of them."""
        ...

    def __call__(self, f: Callable[..., Any], t: Tensor, y: Tensor, *args: Any) -> Tensor: ...


class FieldCode:
    """The native functions of f for states of one size and type. It does not keep f alive.

    n: the size of the state. dtype: its type. args: the arguments with which f was recorded.
    targets: the tensors that native code reads through pointers. watch: tells whether f is still
    what was recorded; certain: whether it notices every change. stored: whether code on the disk
    may be used and is added. kept: what others keep with the code.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        y0: Tensor,
        t0: float,
        args: Sequence[Any],
        walk: Walk,
        frame: Frame | None,
        stored: bool = True,
    ) -> None:
        self._frame = frame
        self._outputs = None if frame is None else frame.outputs
        self.n = y0.numel()
        self.dtype = y0.dtype
        self.watch = walk.watch
        self.certain = walk.certain
        self._f: Any = _reference(f)
        self._y0 = y0.detach().clone()
        self._t0 = float(t0)
        self._probe = Probe(self._y0, self._t0)
        self.args = tuple(args)
        self._lock = threading.RLock()
        self._functions: dict[str, NativeFunction] = {}
        self.kept: dict[Any, Any] = {}
        self._graphs: dict[bool, Graph] = {}
        self._pattern: tuple[np.ndarray, np.ndarray] | None = None
        self._programs = Programs(self.n, REAL_TYPES[self.dtype], self._graph)
        self._held = walk.tables
        self._tables = frozenset(map(id, walk.tables))
        self._key = _field_key(walk, self.n, self.dtype) if stored else None
        self._table = self._stored()
        if self._table is not None:
            self.targets = [walk.tensors[place] for place in self._table["targets"]]
        else:
            self._record_targets(walk)
        check_hooks(self.targets)

    def _stored(self) -> dict[str, Any] | None:
        return None if self._key is None else store.read_table(self._key)

    def _record_targets(self, walk: Walk) -> None:
        """Find what f reads by recording it once, and again at another point."""
        value = self._recorded_value(self._point())
        self.targets = [x for x in value.captured if self._reads(x)]
        again = self._recorded_value(self._comparison().point(11, 1e-3))
        _check_same(value.graph, again.graph)
        same = [a is b for a, b in zip(value.captured, again.captured)]
        if len(value.captured) != len(again.captured) or not all(same):
            raise TranslationRefused(
                "f makes tensors out of numbers that torch does not see, from NumPy for example. "
                "Make them outside f, or use torch's operations."
            )
        self.watch.forgive()
        if not self.watch.holds():
            raise TranslationRefused(
                "f changes Python objects while it runs: a list, a dict or an attribute. Native "
                "code would not change them: return what you need, or keep it out of f."
            )
        places = {id(x): place for place, x in enumerate(walk.tensors)}
        if self._key is not None and any(id(x) not in places for x in value.captured):
            self._key = None
        if self._key is not None:
            found = [places[id(x)] for x in self.targets]
            self._table = {"targets": found, "functions": {}}

    def _reads(self, x: Tensor) -> bool:
        """Whether native code reads the numbers of a tensor from outside through a pointer."""
        return x.dtype.is_floating_point and id(x) not in self._tables

    def _function(self) -> Callable[..., Any]:
        f = self._f()
        if f is None:
            raise RuntimeError("The function of this native code no longer exists.")
        if self._frame is None:
            return f
        return functools.partial(self._frame, f)

    def _point(self) -> Point:
        return Point(torch.tensor(self._t0, dtype=self.dtype), self._y0, {})

    def _comparison(self) -> Comparison:
        return Comparison(
            self._function(), self.args, self._y0, self._t0, self.targets, self._outputs
        )

    def _graph(self, twice: bool) -> Graph:
        """The recording, made when it is first needed, at two points that must agree."""
        graph = self._graphs.get(twice)
        if graph is None:
            graph = self._recorded(self._point(), twice)
            other = self._comparison().point(12, 1e-3)
            _check_same(graph, self._recorded(other, twice))
            self._graphs[twice] = graph
        return graph

    def _recorded_value(self, point: Point) -> Recording:
        return record_value(self._function(), point, self.args, self._tables, self._outputs)

    def _recorded(self, point: Point, twice: bool) -> Graph:
        if self._outputs is not None:
            recording = self._recorded_value(point)
        else:
            recording = record_derivatives(
                self._function(), point, self.args, self.targets, twice, self._tables
            )
        self._number_inputs(recording)
        return recording.graph

    def _number_inputs(self, recording: Recording) -> None:
        """Number the inputs of a recording as the targets are numbered."""
        places = {id(x): i for i, x in enumerate(self.targets)}
        order = {}
        for index, x in enumerate(recording.captured):
            if not self._reads(x):
                continue
            if id(x) not in places:
                raise TranslationRefused(
                    "f uses other tensors in its second call than in its first. Use the same "
                    "parameters and buffers in every call."
                )
            order[index] = places[id(x)]
        seen = set()
        for statement in recording.graph.statements:
            for view in statement.reads:
                seen.add(view.buffer)
        for views in recording.graph.results.values():
            seen.update(view.buffer for view in views)
        for buffer in seen:
            if buffer.role == "input":
                buffer.index = order[buffer.index]

    def function(self, name: str) -> NativeFunction:
        """A native function: from this process, from the disk, or compiled now and compared."""
        known = self._functions.get(name)
        if known is not None:
            return known
        layout(name)  # whether there is such a function
        with self._lock, torch.inference_mode(False):
            if name not in self._functions:
                self._functions[name] = self._loaded(name) or self._made(name)
            return self._functions[name]

    def agrees(self, f: Callable[..., Any], args: Sequence[Any]) -> bool:
        """Whether the native f gives torch's numbers at one point, with the tensors of now.

        The walk over what f reaches cannot see everything: names that are looked up as text, a
        deque. This call of f, without gradients, notices what the walk overlooks.
        """
        native = self.function("f")
        places = {id(x): i for i, x in enumerate(self.args) if isinstance(x, Tensor)}
        targets = [args[places[id(x)]] if id(x) in places else x for x in self.targets]
        call = f if self._frame is None else functools.partial(self._frame, f)
        shape = (native.address, native.size, native.work)
        return self._probe.agrees(shape, call, args, targets)

    def text(self, name: str) -> str:
        """A function in LLVM's language, before it is optimised."""
        return self._programs.text(name).text

    def python_source(self, name: str) -> str:
        """A function as Python source that numba can compile (python_source.py)."""
        return self._programs.python(name, len(self.targets))

    def _loaded(self, name: str) -> NativeFunction | None:
        """The function from the disk."""
        if self._table is None or name not in self._table["functions"]:
            return None
        found = self._table["functions"][name]
        loaded = _recent(found["code"])
        if loaded is None:
            return None
        return NativeFunction(loaded.address("entry"), found["size"], found["work"], loaded)

    def _made(self, name: str) -> NativeFunction:
        """The function compiled, or taken from another field with the same text."""
        program = self._programs.text(name)
        key = store.key("code", processor(), program.level, program.text)
        known = _recent(key)
        loaded = known or Loaded(compiled(program.text, program.level))
        function = NativeFunction(loaded.address("entry"), program.size, program.work, loaded)
        self._compare(name, function)
        if known is None:
            store.write(key, "o", loaded.code)
            _keep(key, loaded)
        self._remember(name, {"code": key, "size": program.size, "work": program.work})
        return function

    def _compare(self, name: str, function: NativeFunction) -> None:
        shape = (function.size, function.work)
        comparison = self._comparison()
        if name.startswith("jac"):
            results = layout(name).results
            comparison.jacobian(function.address, shape, self.pattern(), results)
            return
        if "_stage" in name and not function.size:
            return
        if name.startswith("add_stages"):
            first = self.function("pull_stage")
            comparison.stages(function, first, layout(name).sets)
            return
        before = self.function("jac_kept") if name == "add_kept" else None
        comparison.function(function.address, shape, layout(name), name, before)

    def _remember(self, name: str, entry: dict[str, Any]) -> None:
        """Add a function to the field's table on disk."""
        if self._table is None or self._key is None:
            return
        newest = store.read_table(self._key)
        if newest is not None:
            self._table["functions"].update(newest["functions"])
            if "pattern" in newest:
                self._table["pattern"] = newest["pattern"]
        self._table["functions"][name] = entry
        if self._pattern is not None:
            self._table["pattern"] = [x.tolist() for x in self._pattern]
        store.write_table(self._key, self._table)

    def pattern(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the structural nonzeros of df/dy, int64, in row-major order."""
        with self._lock, torch.inference_mode(False):
            if self._pattern is None:
                if self._table is not None and "pattern" in self._table:
                    rows, columns = self._table["pattern"]
                    self._pattern = (np.array(rows, np.int64), np.array(columns, np.int64))
                else:
                    self._pattern = self._programs.pattern()
            return self._pattern


# Code that was loaded lately, by its key: a function that the user defines anew for each solve has
# the same code each time. The newest comes last.
_RECENT: dict[str, Loaded] = {}
_MOST_RECENT = 64
_RECENT_LOCK = threading.Lock()


def _recent(key: str) -> Loaded | None:
    """The code with this key in memory; None if it is not on the disk either."""
    loaded = _RECENT.get(key)
    if loaded is None:
        code = store.read(key, "o")
        if code is None:
            return None
        loaded = Loaded(code)
    _keep(key, loaded)
    return loaded


def _keep(key: str, loaded: Loaded) -> None:
    """Keep code in memory for a while."""
    with _RECENT_LOCK:
        _RECENT.pop(key, None)
        _RECENT[key] = loaded
        while len(_RECENT) > _MOST_RECENT:
            del _RECENT[next(iter(_RECENT))]


def _reference(f: Callable[..., Any]) -> Any:
    """A weak reference to f; methods are made anew at every look-up, and need their own kind."""
    if hasattr(f, "__self__") and hasattr(f, "__func__"):
        return weakref.WeakMethod(f)
    try:
        return weakref.ref(f)
    except TypeError:
        return lambda: f


def _field_key(walk: Walk, n: int, dtype: torch.dtype) -> str | None:
    if walk.digest is None:
        return None
    return store.key("field", processor(), walk.digest, n, str(dtype), torch.get_default_dtype())


def _check_same(first: Graph, second: Graph) -> None:
    if first.signature() != second.signature():
        raise TranslationRefused(
            "f does not carry out the same operations in two calls: it depends on a Python number "
            "that changes, on randomness or on values. Make f a function of t, y and its tensors."
        )
