"""torch.compile as solves use it. A module keeps its compiled functions. Solves compare each one
with the original before they use its results. Failures raise errors that say what to do."""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


_KEPT = "_pynode_compiled"
# Compiled functions by class and structure of the module, for others of the same kind: while one of
# them lives, and the last ones a while longer.
_SHARED: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
_LATEST: deque = deque(maxlen=32)


class Shared:
    """A compiled function that several modules use.

    function: the compiled one. attempt: the same function before it was compiled; each module
    compares the two once. proven: whether some module has compared them.
    """

    def __init__(self, function: Callable, attempt: Callable) -> None:
        self.function = function
        self.attempt = attempt
        self.proven = False


def formula(method: Any) -> tuple:
    """The part of a key that stands for a method: its numbers, not only its name. The compiled
    function keeps the tableau alive, so that no other tableau can have the same id."""
    return method.name, id(method.tableau), method.adaptive


def signature(module: torch.nn.Module) -> tuple:
    """Two modules with equal signatures use the same compiled functions. The signature contains the
    classes of the inner modules, what torch.compile does not check by default (hooks, and a forward
    of the instance's own), and the shapes and dtypes of the tensors. torch.compile checks all other
    dependencies at every call: strides, numbers, functions and what these close over.
    """
    modules = tuple(
        (name, type(inner), inner.training, _own(inner)) for name, inner in module.named_modules()
    )
    tensors = (*module.named_parameters(), *module.named_buffers())
    return modules, tuple((name, type(x), x.shape, x.dtype, x.requires_grad) for name, x in tensors)


def _own(module: torch.nn.Module) -> tuple:
    """What changes the call of this module: its hooks, and a forward that replaces that of its
    class. The signature keeps them alive, so that none is mistaken for another."""
    hooks = (
        module._forward_pre_hooks,
        module._forward_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return tuple(tuple(found.values()) for found in hooks), module.__dict__.get("forward")


class CompileCache(dict):
    """The compiled functions of one module, kept in it.

    A copy or a replica has tensors of its own, and starts without any. It finds the functions of
    its kind again (``Shared``), and compares them on its own tensors.
    """

    def __init__(self, owner: torch.nn.Module | None = None) -> None:
        super().__init__()
        if owner is None:
            self.owner = None
        else:
            self.owner = weakref.ref(owner)

    @classmethod
    def of(cls, module: torch.nn.Module) -> CompileCache:
        # A module that is made anew for every solve names the one inside that lasts.
        while (lasting := getattr(module, "pynode_lasting", None)) is not None:
            module = lasting
        kept = module.__dict__.get(_KEPT)
        if kept is None or kept.owner is None or kept.owner() is not module:
            kept = module.__dict__[_KEPT] = cls(module)
        return kept

    def __deepcopy__(self, memo: Any) -> CompileCache:
        return CompileCache()

    def __reduce__(self) -> tuple:
        return CompileCache, ()


class Compiled:
    """A function that is compiled, in the first of some ways that the compiler takes.

    ways: each makes (function, attempt): the function, and what it is made of. copying: the numbers
    of the ways that help only where the compiler stumbles over a tensor of the module. module:
    keeps what is compiled under the key. Other modules of its class and structure share it.
    compare(function, attempt, *inputs) raises where the compiled function errs (``agree``), and is
    called once, with the inputs of the first call. graphed: as CUDA graphs, where the device has
    them.
    """

    def __init__(
        self,
        module: Any,
        key: tuple,
        ways: Sequence[Callable],
        compare: Callable,
        backend: str,
        device: torch.device,
        graphed: bool = False,
        copying: Sequence[int] = (),
    ) -> None:
        self.kept = CompileCache.of(module)
        self.key = (*key, backend, device)
        self.ways = ways
        self.compare = compare
        self.copying = copying
        self.backend = backend
        self.options = _options(backend, device, graphed)
        self.module = module
        self.kind: Any = None
        way = self.kept.get(self.key)
        if way is None or (self.key, way) not in self.kept:
            self.kind = signature(module), self.key
            way = way or self._known()
        self._take(way)

    def _known(self) -> int:
        """The way that has served another module of the kind, the first one where there is none."""
        served = (_SHARED.get((*self.kind, way)) for way in range(len(self.ways)))
        return next((way for way, shared in enumerate(served) if shared and shared.proven), 0)

    def _take(self, way: int, alone: bool = False) -> None:
        """Go on with a way; alone: with a function that no other module shares."""
        kept = self.kept
        place = (self.key, way)
        if alone or place not in kept:
            self.kind = self.kind or (signature(self.module), self.key)
            name = (*self.kind, way)
            if alone:
                shared = None
            else:
                shared = _SHARED.get(name)
            if shared is None:
                shared = self._make(way)
                if not alone:
                    _SHARED[name] = shared
                    _LATEST.append(shared)
            kept[place] = shared
            kept[place, "alone"], kept[place, "unproven"] = alone, True
        self.way = kept[self.key] = way

    def _make(self, way: int) -> Shared:
        function, attempt = self.ways[way]()
        # A code object of its own: torch.compile counts its recompilations, and limits them, by
        # these.
        function.__code__ = function.__code__.replace()
        options: dict[str, Any] = {
            "guard_filter_fn": _guards(function.__code__.co_freevars),
            **self.options,
        }
        options = {"dynamic": False, "backend": self.backend, "options": options}
        return Shared(torch.compile(function, fullgraph=True, **options), attempt)

    def __call__(self, *inputs: Any) -> Any:
        """The function at the inputs; to be called under ``outside``. ValueError where it cannot be
        compiled in any way."""
        place = self.key, self.way
        shared = self.kept[place]
        try:
            if self.kept[place, "unproven"]:
                with _quiet():
                    self.compare(shared.function, shared.attempt, *inputs)
                shared.proven = True
                self.kept[place, "unproven"] = False
            return shared.function(*inputs)
        except Exception as error:
            if not _of_compiler(error):
                raise
            if type(error).__name__ == "FailOnRecompileLimitHit":
                if self.kept[place, "alone"]:
                    raise ValueError(
                        "torch.compile has made the steps on this field again and again, for"
                        " something in it that changes from solve to solve, and gives up: pass such"
                        " numbers as tensors in args, or leave out compile"
                    ) from error
                following = self.way  # other modules of the kind have used up what is allowed
            else:
                following = self._following(error)
                if following == len(self.ways):
                    self._take(0)  # what is wrong may change
                    said = " ".join(str(error).split())[:200] or type(error).__name__
                    raise ValueError(
                        "the steps cannot be compiled: f must be one graph of torch operations"
                        " with derivatives, without branches on values, RejectStep or calls into"
                        f" NumPy, and a C++ compiler be there; leave out compile ({said})"
                    ) from error
        self._take(following, alone=following == self.way)
        return self(*inputs)

    def _following(self, error: BaseException) -> int:
        """The next way after one that has failed."""
        way = self.way + 1
        while way in self.copying and not isinstance(error, AssertionError):
            way += 1
        return way


def _of_compiler(error: BaseException) -> bool:
    """Whether the compiler has failed, by an error of its own or by an assertion in its code."""
    own = ["torch", "_dynamo"], ["torch", "_inductor"], ["torch", "_higher_order_ops"]
    if type(error).__module__.split(".")[:2] in own:
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
    else:
        name = ""
    return isinstance(error, AssertionError) and name.split(".")[:2] in own


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Where compiled functions are called, and their inputs copied: without graph and outside
    inference mode, in solves with and without gradient, so that one compilation serves both."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def agree(found: Tensor, expected: Tensor, y: Tensor, tol: float | None = None) -> None:
    """Raises ValueError if the result of a compiled function, (..., n), differs from the expected
    one by more than rounding in y, (..., n). Sizes are compared along the last dimension.

    Compilers have bugs, and these would go unnoticed."""
    tol = tol or (1e-3 if y.dtype == torch.float32 else 1e-8)
    size = expected.abs().amax(-1, keepdim=True)
    rounding = 1e3 * torch.finfo(y.dtype).eps * y.abs().amax(-1, keepdim=True)
    far = (found - expected).abs() > tol * size + rounding
    if bool((far | (found.isnan() != expected.isnan())).any()):
        error = float(((found - expected).abs() / size).nan_to_num().max())
        raise ValueError(
            f"torch.compile makes steps on this field that are wrong, by {error:.1g} of their size:"
            " leave out compile, or name another backend, compile='aot_eager'"
        )


def without_zeros(y: Tensor) -> Tensor:
    """A state near y, (..., n), at which all of the Jacobian shows."""
    near = torch.cos(torch.arange(y.shape[-1], dtype=y.dtype, device=y.device)) * 0.1
    return y + near * (y.abs() + y.abs().mean(-1, keepdim=True) + 1e-3)


def _options(backend: str, device: torch.device, graphed: bool) -> dict[str, bool]:
    """What the compiler is told beside the graph."""
    if backend != "inductor":
        return {}
    # Torch 2.13 imports it after the first trace; where that one fails, every trace after the
    # import fails as well.
    importlib.import_module("torch._inductor.compile_fx")
    if device.type == "cpu":
        return {"cpp_wrapper": True}
    return {"triton.cudagraphs": graphed}


def _guards(own: Sequence[str]) -> Callable:
    """Selects which torch.compile guards to keep: about 20 of 500, those on the inputs and f.

    own: the names that the function closes over. These tableaus and layouts never change. Of
    torch's own modules only the global module hooks can change."""

    def wanted(entry: Any) -> bool:
        name = entry.name
        if name.startswith(("G['__import_torch_dot_", "__import__('torch')")):
            return "nn_dot_modules" in name
        return re.split(r"\W", name, maxsplit=1)[0] not in own

    return lambda entries: [wanted(entry) for entry in entries]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context without log messages that a user can do nothing about: that LAPACK calls are slower
    than other operations; failed traces, because there is another way, or an exception reports
    them; and a recompilation limit that modules of one kind have reached, because the next module
    gets a function of its own."""
    names = "torch._inductor.ir", "torch._subclasses.fake_tensor", "torch._dynamo.convert_frame"
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
