"""A key of a vector field that needs no recording: its code, and the data that the code can reach.

The walk starts at f and follows what Python code can follow: bytecode, constants, closures,
defaults, the globals that the code names, classes, attributes and containers. Floating tensors
count with their shape alone, because native code reads their numbers through pointers. What the
walk does not understand makes the field one without a key: it is then compiled in every process.
"""

from __future__ import annotations

import builtins
import collections
import contextlib
import dataclasses
import enum
import functools
import hashlib
import operator
import sys
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .tables import is_table, numbers_of, watched

# What looks up names that only exist as text.
_BY_TEXT = frozenset(
    "globals locals vars getattr eval exec __import__ import_module attrgetter modules"
    " __getattr__ __getattribute__".split()
)
_ATTRIBUTES = (Tensor, torch.nn.Module, type(None))
# Objects that a walk visits at most.
_MOST = 20_000
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_NAMED = (torch.dtype, torch.layout, torch.memory_format, torch.device, torch.Size, np.dtype)
# Code of these packages is known by its name, and by the versions that every key contains.
_OPAQUE = frozenset({"torch", "numpy", "builtins", *sys.stdlib_module_names}) - {"__main__"}
_BUILTIN = (
    types.BuiltinFunctionType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.MethodWrapperType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.ClassMethodDescriptorType,
    # The fields of a named tuple; their order is in its _fields.
    type(vars(collections.namedtuple("_Named", "field"))["field"]),
    np.ufunc,
)


class Walk:
    """What a walk has found.

    roots: where it begins. args: of f, whose numbers can differ in every call.
    tensors: the tensors, in the order of the walk. tables: those of them whose numbers become
    constants of the code (tables.py). reason: why there is no key, or None. certain:
    whether the walk has seen everything that f can look up, so that the watch notices each change.
    """

    def __init__(self, roots: Iterable[Any], args: Iterable[Any] = ()) -> None:
        self._args = set(map(id, args))
        self.tensors: list[Tensor] = []
        self.tables: list[Tensor] = []
        self.reason: str | None = None
        self.certain = True
        self.watch = Watch()
        self._hash = hashlib.blake2b(digest_size=20)
        self._seen: dict[int, int] = {}
        self._held: list[Any] = []
        self._looked_up: set[tuple] = set()
        try:
            for root in roots:
                self._visit(root)
        except RecursionError:
            self._fail("it reaches objects nested too deeply")

    @property
    def digest(self) -> str | None:
        """The hash of all that the walk has found; None if something has no key."""
        return self._hash.hexdigest() if self.reason is None else None

    def _put(self, *tokens: object) -> None:
        self._hash.update(repr(tokens).encode())

    def _fail(self, why: str) -> None:
        self.certain = False
        if self.reason is None:
            self.reason = why

    def _visit(self, x: Any) -> None:
        if isinstance(x, _PLAIN) and not isinstance(x, enum.Enum):
            self._put(type(x).__name__, x)
            return
        known = self._seen.get(id(x))
        if known is not None:
            self._put("again", known)
            return
        self._seen[id(x)] = len(self._seen)
        self._held.append(x)
        if len(self._seen) > _MOST:
            self._fail("it reaches too many objects")
            return
        for kind, method in _VISITS:
            if isinstance(x, kind):
                method(self, x)
                return
        self._instance(x)

    # -------------------------------------------------------------- containers

    def _sequence(self, x: Any) -> None:
        self._put(type(x).__name__, len(x))
        if isinstance(x, list):
            self.watch.sequence(x)
        for item in x:
            self._visit(item)
        if type(x) not in (list, tuple):
            self._visit(type(x))

    def _mapping(self, x: dict) -> None:
        self._put(type(x).__name__, len(x))
        self.watch.mapping(x)
        # The keys of torch's own dicts, of parameters and modules, are names of attributes.
        if not all(isinstance(value, _ATTRIBUTES) for value in x.values()):
            self.watch.contents(lambda: tuple(x))
        for name, item in x.items():
            self._visit(name)
            self._visit(item)

    def _set(self, x: Any) -> None:
        items = list(x)
        if not all(isinstance(item, _PLAIN) for item in items):
            self._fail("it reaches a set of objects")
        self._put("set", sorted(map(repr, items)))
        self.watch.contents(lambda: sorted(map(repr, x)))

    def _named(self, x: Any) -> None:
        self._put(type(x).__name__, repr(x))

    def _enum(self, x: enum.Enum) -> None:
        self._put("enum", type(x).__module__, type(x).__qualname__, x.name)

    def _tensor(self, x: Tensor) -> None:
        self.tensors.append(x)
        if x.layout != torch.strided or x.device.type != "cpu":
            self._put("tensor", str(x.layout), str(x.device))
            return
        self._put("tensor", tuple(x.shape), x.stride(), str(x.dtype), type(x).__name__)
        if id(x) not in self._args and is_table(x):
            self.tables.append(x)
            self._put("table", numbers_of(x))
            self.watch.contents(watched(x))
            return
        if x.dtype.is_floating_point or x.dtype.is_complex:
            self.watch.contents(lambda: (x.shape, x.stride(), x.dtype, bool(x._backward_hooks)))
            return
        self._put(x.detach().numpy().tobytes())
        self.watch.contents(lambda: x.detach().numpy().tobytes())

    def _array(self, x: np.ndarray) -> None:
        if x.dtype.hasobject:
            self._fail("it reaches an array of objects")
            return
        self._put("array", x.shape, str(x.dtype), x.tobytes())
        self.watch.contents(lambda: x.tobytes())

    # -------------------------------------------------------------------- code

    def _code(self, x: types.CodeType) -> None:
        self._put("code", x.co_name, x.co_code, x.co_names, x.co_freevars, x.co_cellvars)
        self._put(x.co_argcount, x.co_kwonlyargcount, x.co_posonlyargcount, x.co_flags)
        self._put(x.co_varnames, getattr(x, "co_exceptiontable", b""))
        for constant in x.co_consts:
            self._visit(constant)

    def _function(self, x: types.FunctionType) -> None:
        # Not by x.__module__, which functools.wraps takes from what it wraps.
        if str(x.__globals__.get("__name__", "")).partition(".")[0] in _OPAQUE:
            self._put("function", x.__module__, x.__qualname__)
            if x.__closure__:
                self._cells(x)
            return
        self._put("function", x.__name__)
        self._visit(x.__code__)
        self._visit(x.__defaults__)
        self._visit(x.__kwdefaults__)
        self._cells(x)
        self._globals(x)
        self.watch.function(x)

    def _cells(self, x: types.FunctionType) -> None:
        for cell in x.__closure__ or ():
            try:
                self._visit(cell.cell_contents)
            except ValueError:
                self._put("empty cell")

    def _globals(self, x: types.FunctionType) -> None:
        names = sorted(_names(x.__code__))
        self.certain &= _BY_TEXT.isdisjoint(names) and not hasattr(x, "__wrapped__")
        found = [name for name in names if name in x.__globals__]
        self.watch.names(x.__globals__, found)
        for name in names:
            if name in x.__globals__:
                self._put("global", name)
                value = x.__globals__[name]
                if isinstance(value, types.ModuleType):
                    self._module_names(value, names)
                else:
                    self._visit(value)
            elif hasattr(builtins, name):
                self._put("builtin", name)
            elif name in sys.modules:  # an import within the function
                self._module_names(sys.modules[name], names)

    def _module_names(self, module: types.ModuleType, names: list[str]) -> None:
        """Of a user's Python module, the names that the code could mean."""
        self._put("module", module.__name__)
        if module.__name__.partition(".")[0] in _OPAQUE:
            return
        self.certain = False
        space = vars(module)
        found = [name for name in names if name in space]
        place = (id(module), *found)
        if place in self._looked_up:
            return
        self._looked_up.add(place)
        self.watch.names(space, found)
        for name in found:
            self._put("attribute", name)
            if isinstance(space[name], types.ModuleType):
                self._module_names(space[name], names)
            else:
                self._visit(space[name])

    def _method(self, x: types.MethodType) -> None:
        self._put("method")
        self._visit(x.__func__)
        self._visit(x.__self__)

    def _partial(self, x: functools.partial) -> None:
        self._put("partial")
        self._visit(x.func)
        self._visit(x.args)
        self._visit(x.keywords)

    def _wrapped(self, x: Any) -> None:
        self._put(type(x).__name__)
        self._visit(x.__func__)

    def _property(self, x: property) -> None:
        self._put("property")
        self._visit((x.fget, x.fset))

    def _builtin(self, x: Any) -> None:
        self._put("builtin", getattr(x, "__qualname__", getattr(x, "__name__", "")))
        owner = getattr(x, "__self__", None)
        if owner is not None and not isinstance(owner, (types.ModuleType, type)):
            self._visit(owner)
        self._put(getattr(x, "__module__", None))

    def _class(self, x: type) -> None:
        self._put("class", x.__module__, x.__qualname__)
        if _opaque(x):
            return
        self._visit(x.__bases__)
        self.watch.mapping(vars(x))
        self.certain &= _BY_TEXT.isdisjoint(vars(x))
        for name, value in sorted(vars(x).items(), key=operator.itemgetter(0)):
            if name in _CLASS_INTERNALS:
                continue
            self._put("member", name)
            if name == "__dataclass_fields__":
                # Their names: what else they say is in the functions that dataclass has made.
                self._visit(tuple(value))
            elif name == "__dataclass_params__":
                self._put(repr(value))
            else:
                self._visit(value)

    # --------------------------------------------------------------- instances

    def _python_module(self, x: types.ModuleType) -> None:
        self._put("module", x.__name__)

    def _instance(self, x: Any) -> None:
        kind = type(x)
        state = getattr(x, "__dict__", None)
        if not isinstance(state, (dict, type(None))):  # an object that answers to every name
            self._fail(f"it reaches an object of type {kind.__module__}.{kind.__qualname__}")
            return
        if hasattr(kind, "__field_parts__"):
            self._parts(x, kind)
            return
        slots = _slots(kind)
        if state is None and not slots:
            if _opaque(kind) or getattr(kind, "__flags__", 0) & _HEAP == 0:
                self._fail(f"it reaches an object of type {kind.__module__}.{kind.__qualname__}")
                return
        elif _opaque(kind) and not isinstance(x, torch.nn.Module):
            if not (dataclasses.is_dataclass(kind) or kind is types.SimpleNamespace):
                self._fail(f"it reaches an object of type {kind.__module__}.{kind.__qualname__}")
                return
        self._put("instance")
        self._visit(kind)
        self.watch.kind(x)
        if state is not None:
            self.watch.mapping(state)
            for name, value in state.items():
                self._put("attribute", name)
                self._visit(value)
        for name in slots:
            if hasattr(x, name):
                self._put("slot", name)
                self._visit(getattr(x, name))
                self.watch.slot(x, name)

    def _parts(self, x: Any, kind: type) -> None:
        """An object that says what it computes with: ``__field_parts__()`` returns its functions,
        tensors and modules. Nothing else of it counts, neither its class nor its attributes."""
        parts = x.__field_parts__()
        self._put("parts", kind.__module__, kind.__qualname__)
        self._visit(parts)
        self.watch.kind(x)
        self._held.append(parts)
        self.watch.contents(lambda: tuple(map(id, x.__field_parts__())))


_HEAP = 1 << 9
_CLASS_INTERNALS = frozenset(
    "__dict__ __weakref__ __module__ __qualname__ __doc__ __annotations__ __abstractmethods__"
    " _abc_impl __firstlineno__ __static_attributes__ __annotate__ __annotate_func__"
    " __annotations_cache__ __slots__".split()
)


def _slots(kind: type) -> list[str]:
    names: list[str] = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _opaque(x: Any) -> bool:
    return str(getattr(x, "__module__", "") or "").partition(".")[0] in _OPAQUE


def _names(code: types.CodeType) -> set[str]:
    """The names that a function and the functions within it use."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


_VISITS: list[tuple[Any, Callable[[Walk, Any], None]]] = [
    (Tensor, Walk._tensor),
    (enum.Enum, Walk._enum),
    (_NAMED, Walk._named),
    ((tuple, list), Walk._sequence),
    (dict, Walk._mapping),
    ((set, frozenset), Walk._set),
    (types.CodeType, Walk._code),
    (types.FunctionType, Walk._function),
    (types.MethodType, Walk._method),
    (types.ModuleType, Walk._python_module),
    (functools.partial, Walk._partial),
    ((staticmethod, classmethod), Walk._wrapped),
    (property, Walk._property),
    (type, Walk._class),
    (_BUILTIN, Walk._builtin),
    (np.ndarray, Walk._array),
    (np.generic, Walk._named),
]


class Watch:
    """Tells in microseconds whether anything that a walk has found is another object now."""

    def __init__(self) -> None:
        self._empty: list[Any] = []
        self._mappings: list[tuple[Any, list[Any]]] = []
        self._sequences: list[tuple[list, list[Any]]] = []
        # By the id of a namespace, because many functions share one.
        self._names: dict[int, tuple[dict, list[str], list[Any]]] = {}
        self._functions: list[tuple[Any, Any, Any, Any, list[Any]]] = []
        self._kinds: list[tuple[Any, type]] = []
        self._contents: list[tuple[Callable[[], Any], Any]] = []

    def mapping(self, x: Any) -> None:
        """Its values stay the same objects."""
        if len(x):
            self._mappings.append((x, list(x.values())))
        elif type(x) is not types.MappingProxyType:
            self._empty.append(x)

    def kind(self, x: Any) -> None:
        """Its class stays."""
        with contextlib.suppress(TypeError):
            self._kinds.append((weakref.ref(x), type(x)))

    def sequence(self, x: list) -> None:
        """Its items stay the same objects."""
        self._sequences.append((x, list(x)))

    def names(self, space: dict, names: list[str]) -> None:
        """These names keep their meaning."""
        known = self._names.setdefault(id(space), (space, [], []))
        for name in names:
            if name not in known[1]:
                known[1].append(name)
                known[2].append(space[name])

    def function(self, x: types.FunctionType) -> None:
        """Its code, defaults and closure stay. The watch does not keep f alive."""
        kept = (weakref.ref(x), x.__code__, x.__defaults__, x.__kwdefaults__, _cells(x))
        self._functions.append(kept)

    def slot(self, x: Any, name: str) -> None:
        """An attribute in a slot stays."""
        value = getattr(x, name)
        self.contents(lambda: getattr(x, name, None) is value)

    def contents(self, read: Callable[[], Any]) -> None:
        """What read gives stays equal."""
        self._contents.append((read, read()))

    def holds(self) -> bool:
        """Whether nothing has changed."""
        same = operator.is_
        if any(self._empty):
            return False
        for x, values in self._mappings:
            if len(x) != len(values) or not all(map(same, x.values(), values)):
                return False
        for x, values in self._sequences:
            if len(x) != len(values) or not all(map(same, x, values)):
                return False
        for space, names, values in self._names.values():
            if not all(map(same, map(space.get, names), values)):
                return False
        for reference, code, defaults, keywords, cells in self._functions:
            x = reference()
            if x is None or x.__code__ is not code or x.__defaults__ is not defaults:
                return False
            if x.__kwdefaults__ is not keywords:
                return False
            if cells and not all(map(same, _cells(x), cells)):
                return False
        if any(type(reference()) is not kind for reference, kind in self._kinds):
            return False
        return all(read() == before for read, before in self._contents)

    def forgive(self) -> None:
        """Leave out the numbers that f itself has changed: a counter of its calls."""
        kept: list[tuple[Any, list[Any]]] = []
        for x, values in self._mappings:
            found = list(x.values())
            changed = [
                i for i, value in enumerate(found) if i >= len(values) or value is not values[i]
            ]
            numbers = all(isinstance(found[i], (int, float)) for i in changed)
            if changed and numbers and len(found) == len(values):
                rest = _Without(x, frozenset(changed))
                kept.append((rest, rest.values()))
            else:
                kept.append((x, values))
        self._mappings = kept


class _Without:
    """The values of a mapping without those at some places."""

    def __init__(self, mapping: Any, places: frozenset[int]) -> None:
        self._mapping = mapping
        self._places = places

    def __len__(self) -> int:
        return len(self._mapping) - len(self._places)

    def values(self) -> list[Any]:
        """All values but these."""
        return [x for i, x in enumerate(self._mapping.values()) if i not in self._places]


def _cells(x: types.FunctionType) -> list[Any]:
    """What the cells of a function hold; None for an empty one."""
    found = []
    for cell in x.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:
            found.append(None)
    return found
