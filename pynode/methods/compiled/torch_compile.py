"""torch.compile as solves use it. A module keeps its compiled functions. Solves compare each one
with the original before they use its results. Failures raise errors that say what to do."""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...core.memory import raise_if_exhausted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


_ATTRIBUTE = "_pynode_compiled"
# Compiled functions by class and structure of the module. Modules of the same kind share them. A
# function lives as long as one of its modules, and the last 32 functions longer.
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


@dataclass
class CompiledFunction:
    """A function that a module keeps compiled.

    rows: the number of rows that it takes, of a solve with batched=True; None for the steps of one
    system. variant: the number of the variant that was compiled; each later one is for modules that
    the compiler refuses in the earlier ones. calls: how often solves of this module have used it; 0
    if the compiler refused it.
    """

    rows: int | None
    variant: int
    calls: int = 0


def compiled_functions(module: torch.nn.Module) -> list[CompiledFunction]:
    """The compiled functions that a vector field keeps after solves with ``compile``, in the order
    in which they were made. The list shows whether a solve has compiled something again."""
    return [kept for kept in CompileCache.of(module).values() if isinstance(kept, CompiledFunction)]


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
    """What changes the call of this module: its hooks, and a forward of the instance. The signature
    keeps them alive, so that no other object gets the same id."""
    hooks = (
        module._forward_pre_hooks,
        module._forward_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return tuple(tuple(hook.values()) for hook in hooks), module.__dict__.get("forward")


class CompileCache(dict):
    """The compiled functions of one module, which holds them.

    A copy or a replica has other tensors, and starts with an empty cache. It finds the functions of
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
        # A module that lives for one solve names the inner module that lives longer.
        while (lasting := getattr(module, "pynode_lasting", None)) is not None:
            module = lasting
        cache = module.__dict__.get(_ATTRIBUTE)
        if cache is None or cache.owner is None or cache.owner() is not module:
            cache = module.__dict__[_ATTRIBUTE] = cls(module)
        return cache

    def __deepcopy__(self, memo: Any) -> CompileCache:
        return CompileCache()

    def __reduce__(self) -> tuple:
        return CompileCache, ()


class Compiled:
    """A compiled function: the first of several variants that the compiler accepts.

    variants: each makes (function, attempt): the function, and the step that it contains. copying:
    the numbers of the variants that help only if the compiler fails on a tensor of the module.
    module: keeps the compiled functions under the key. Other modules of its class and structure
    share them. compare(function, attempt, *inputs) raises ValueError if the compiled function is
    wrong (``agree``). It is called once, with the inputs of the first call. graphed: use CUDA
    graphs where the thread has them. rows: the number of rows that the function takes, for
    ``compiled_functions``.
    """

    def __init__(
        self,
        module: Any,
        key: tuple,
        variants: Sequence[Callable],
        compare: Callable,
        backend: str,
        device: torch.device,
        graphed: bool = False,
        copying: Sequence[int] = (),
        rows: int | None = None,
    ) -> None:
        self.rows = rows
        self.cache = CompileCache.of(module)
        graphed = graphed and has_graphs()
        self.key = (*key, backend, device, graphed)
        self.variants = variants
        self.compare = compare
        self.copying = copying
        self.backend = backend
        self.options = _options(backend, device, graphed)
        self.module = module
        self.kind: Any = None
        variant = self.cache.get(self.key)
        if variant is None or (self.key, variant) not in self.cache:
            self.kind = signature(module), self.key
            variant = variant or self._proven_variant()
        self._use(variant)

    def _proven_variant(self) -> int:
        """The variant that serves another module of the kind, or the first one."""
        for variant in range(len(self.variants)):
            shared = _SHARED.get((*self.kind, variant))
            if shared and shared.proven:
                return variant
        return 0

    def _use(self, variant: int, alone: bool = False) -> None:
        """Use this variant from now on. alone: with a function that no other module shares."""
        cache = self.cache
        slot = (self.key, variant)
        if alone or slot not in cache:
            self.kind = self.kind or (signature(self.module), self.key)
            name = (*self.kind, variant)
            if alone:
                shared = None
            else:
                shared = _SHARED.get(name)
            if shared is None:
                shared = self._make(variant)
                if not alone:
                    _SHARED[name] = shared
                    _LATEST.append(shared)
            cache[slot] = shared
            cache[slot, "alone"] = alone
            cache[slot, "unproven"] = True
            cache[slot, "record"] = CompiledFunction(self.rows, variant)
        cache[self.key] = variant
        self.variant = variant

    def _make(self, variant: int) -> Shared:
        function, attempt = self.variants[variant]()
        # torch.compile counts and limits its recompilations for each code object: this function
        # gets its own.
        function.__code__ = function.__code__.replace()
        options: dict[str, Any] = {
            "guard_filter_fn": _guards(function.__code__.co_freevars),
            **self.options,
        }
        options = {"dynamic": False, "backend": self.backend, "options": options}
        return Shared(torch.compile(function, fullgraph=True, **options), attempt)

    def __call__(self, *inputs: Any) -> Any:
        """The function at the inputs. The caller enters ``outside``. Raises ValueError if no
        variant can be compiled."""
        slot = self.key, self.variant
        shared = self.cache[slot]
        try:
            if self.cache[slot, "unproven"]:
                with _quiet():
                    self.compare(shared.function, shared.attempt, *inputs)
                shared.proven = True
                self.cache[slot, "unproven"] = False
            found = shared.function(*inputs)
            self.cache[slot, "record"].calls += 1
            return found
        except Exception as error:
            raise_if_exhausted(error)
            if not _of_compiler(error):
                raise
            if type(error).__name__ == "FailOnRecompileLimitHit":
                if self.cache[slot, "alone"]:
                    raise ValueError(
                        "torch.compile has reached its limit of recompilations, because something"
                        " in this field changes from solve to solve: pass such numbers as tensors"
                        " in args, or leave out compile"
                    ) from error
                # Other modules of the kind have used up the recompilations.
                variant = self.variant
            else:
                variant = self._next_variant(error)
                if variant == len(self.variants):
                    self._use(0)  # the cause of the error may change
                    message = " ".join(str(error).split())[:200] or type(error).__name__
                    raise ValueError(
                        "the steps cannot be compiled: f must be one graph of torch operations"
                        " with derivatives, without branches on values, RejectStep or calls into"
                        " NumPy, and a C++ compiler must be installed; or leave out compile"
                        f" ({message})"
                    ) from error
        self._use(variant, alone=variant == self.variant)
        return self(*inputs)

    def _next_variant(self, error: BaseException) -> int:
        """The variant to try after this error."""
        variant = self.variant + 1
        while variant in self.copying and not isinstance(error, AssertionError):
            variant += 1
        return variant


def _of_compiler(error: BaseException) -> bool:
    """Whether the error comes from the compiler: its own exception, or an assertion in its code."""
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
    """Context for calls of compiled functions and for copies of their inputs: no graph and no
    inference mode. One compilation then serves solves with and without gradient."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def agree(compiled: Tensor, expected: Tensor, y: Tensor, tol: float | None = None) -> None:
    """Raises ValueError if the result of a compiled function, (..., n), differs from the expected
    one by more than rounding in y, (..., n). Sizes are compared along the last dimension.

    Compilers have bugs, which nobody would notice without this check."""
    if tol is None:
        if y.dtype == torch.float32:
            tol = 1e-3
        else:
            tol = 1e-8
    size = expected.abs().amax(-1, keepdim=True)
    rounding = 1e3 * torch.finfo(y.dtype).eps * y.abs().amax(-1, keepdim=True)
    far = (compiled - expected).abs() > tol * size + rounding
    if bool((far | (compiled.isnan() != expected.isnan())).any()):
        error = float(((compiled - expected).abs() / size).nan_to_num().max())
        raise ValueError(
            f"torch.compile makes wrong steps on this field; they deviate by {error:.1g} of their"
            " size: leave out compile, or name another backend, compile='aot_eager'"
        )


def without_zeros(y: Tensor) -> Tensor:
    """A state near y, (..., n), with no zero that would hide an entry of the Jacobian."""
    near = torch.cos(torch.arange(y.shape[-1], dtype=y.dtype, device=y.device)) * 0.1
    return y + near * (y.abs() + y.abs().mean(-1, keepdim=True) + 1e-3)


def has_graphs() -> bool:
    """Whether compiled functions can use CUDA graphs in this thread.

    torch keeps its graphs in the thread that imports it and in the threads of autograd that serve
    this one. In any other thread it fails on an assertion (pytorch#123177), so there the steps are
    compiled without graphs.
    """
    trees = importlib.import_module("torch._inductor.cudagraph_trees")
    name = "tree_manager_containers"
    return hasattr(trees.local, name) or torch._C._is_key_in_tls(name)


def _options(backend: str, device: torch.device, graphed: bool) -> dict[str, bool]:
    """Options of the compiler."""
    if backend != "inductor":
        return {}
    # Torch 2.13 imports it after the first trace. If that trace fails, every trace after the import
    # fails as well.
    importlib.import_module("torch._inductor.compile_fx")
    if device.type == "cpu":
        return {"cpp_wrapper": True}
    return {"triton.cudagraphs": graphed}


def _guards(own: Sequence[str]) -> Callable:
    """Selects which torch.compile guards to keep: about 20 of 500, those on the inputs and f.

    own: the names that the function closes over. These tableaus and layouts never change. In
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
    than other operations; failed traces, because another variant works or an exception reports
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
