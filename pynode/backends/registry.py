"""Which engine runs a solve: torch's own, compiled code, or Julia."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ..core.caller import level_of_caller
from ..core.suggestions import SuggestsOptions
from ..methods import registry
from ..methods.base import Method
from .julia import algorithms
from .julia.setup.locate import locate
from .packages import missing_for_cuda, missing_for_native
from .torch import loop as torch_engine

if TYPE_CHECKING:
    from ..core.trajectory import Trajectory
    from .native.cuda.engine import CudaBackend
    from .native.engine import NativeBackend as NativeEngine

HOOKS = ("auto", "native", "python")
NAMES = ("auto", "torch", "native", "julia")
STATES = ("cpu", "cuda")


@dataclass(frozen=True)
class TorchBackend(SuggestsOptions):
    """pynode's own solvers in torch operations, on every device of torch.

    passes: for batched=True: how many passes over all rows follow one another without the host,
    which otherwise waits for the device in each of them. In a pass each row tries a step, or makes
    one iteration of it. 8 to 16 serve a GPU. On CUDA they are one captured graph (for implicit
    methods up to 8 states a row): f must do the same operations at every call and read no number on
    the host; if it cannot be captured, a warning says so, and its operations run one by one. Rows
    that have ended are carried along until there are fewer by a quarter.

    passes=None gives the same steps and results. From 16,384 rows on a device, the numbers of the
    rows then stay there as well, and the host reads a few sums in each pass.

    Both serve explicit Runge-Kutta and Rosenbrock methods, QNDF and FBDF. Solves with events, a
    callback, max_seconds, nonnegative, domain, max_nfe, tstops or compiled steps, and an f that
    draws random numbers, have their numbers on the host. No GPU has shown yet what passes are
    worth.
    """

    passes: int | None = None

    name = "torch"
    method = staticmethod(registry.get)
    integrate = staticmethod(torch_engine.integrate)

    def __post_init__(self) -> None:
        if self.passes is not None and (not isinstance(self.passes, int) or self.passes < 1):
            raise ValueError(
                f"passes must be a positive number of passes, or None, not {self.passes!r}; 16 is"
                " a good start"
            )

    @staticmethod
    def twin(method: Method) -> Method:
        """The method of the torch engine that repeats what this one did."""
        return method


@dataclass(frozen=True)
class JuliaBackend(SuggestsOptions):
    """SciML's solvers, called with the torch field. Julia starts at the first solve.

    state: where Julia holds the state. 'cpu': in main memory; for a field on a GPU each call copies
    the state there. 'cuda': on the GPU of y0, as a CuArray in torch's memory, for states of many
    thousands (docs/julia.md).

    hooks: by what Julia evaluates f. 'native': compiled functions of f and its derivatives, without
    Python (docs/native.md); 'python': f itself; 'auto': native where f can be translated.
    Solution.hooks says which ones were used. With batched=True and native functions each row is a
    solve of its own on Julia's threads; with 'python' all rows are one system. 'auto' takes rows
    where it can; 'native' raises the reason where it cannot.
    """

    state: str = "cpu"
    hooks: str = "auto"

    name = "julia"
    method = staticmethod(algorithms.get)

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(
                f"unknown state {self.state!r} of JuliaBackend: choose 'cpu' or 'cuda'"
            )
        if self.hooks not in HOOKS:
            raise ValueError(
                f"unknown hooks {self.hooks!r} of JuliaBackend: choose 'auto', 'native' or 'python'"
            )

    @staticmethod
    def twin(method: Method) -> Method:
        """The torch engine's method of the same name, or the nearest."""
        return registry.get(algorithms.nearest(method.name) or "qndf")

    def integrate(self, *arguments: Any, **keywords: Any) -> Trajectory:
        from .julia.solve import integrate

        return integrate(  # type: ignore[misc]
            *arguments, **keywords, state=self.state, hooks=self.hooks
        )


@dataclass(frozen=True)
class NativeBackend(SuggestsOptions):
    """The native engine, and where it runs.

    device: 'cpu', as backend='native'. 'cuda': on the GPU of y0, with batched=True. All rows are
    then solved by one kernel, a thread for a row, without Python between the steps
    (docs/native.md). It needs the package numba-cuda.
    """

    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.device not in STATES:
            raise ValueError(
                f"unknown device {self.device!r} of NativeBackend: choose 'cpu' or 'cuda'"
            )


# What ``solve`` takes as backend.
Backend: TypeAlias = str | TorchBackend | NativeBackend | JuliaBackend


def plain(backend: Backend) -> Backend:
    """'native' for the native engine on the CPU; any other backend as it is."""
    if isinstance(backend, NativeBackend) and backend.device == "cpu":
        return "native"
    return backend


def choose(backend: Backend, method: str | type[Method] | Method) -> tuple[Any, Any]:
    """Return (engine, method) for the user's names. The method 'auto' stays 'auto'.

    backend: from ``plain``. The backend 'auto' is the torch engine if it has the method, and Julia
    if only Julia has it. If Julia is not ready, the nearest method of the torch engine runs, and a
    warning names it and the reason.
    """
    if isinstance(backend, JuliaBackend):
        return backend, method if method == "auto" else algorithms.get(method)
    if isinstance(backend, TorchBackend):
        return backend, method if method == "auto" else registry.get(method)
    if isinstance(backend, NativeBackend):
        kernel = cuda_engine()
        return kernel, method if method == "auto" else kernel.method(method)
    if backend not in NAMES:
        raise ValueError(
            f"unknown backend {backend!r}: choose 'auto', 'torch', 'native', 'julia', a"
            " TorchBackend, a NativeBackend or a JuliaBackend"
        )
    if backend == "native":
        engine = native_engine()
        return engine, method if method == "auto" else engine.method(method)
    if backend == "julia" or isinstance(method, algorithms.JuliaMethod):
        return JuliaBackend(), method if method == "auto" else algorithms.get(method)
    if method == "auto" or isinstance(method, Method) or backend == "torch":
        return TorchBackend(), method if method == "auto" else registry.get(method)
    foreign = algorithms.is_object(method)
    try:
        return TorchBackend(), registry.get(method)
    except (ValueError, TypeError):
        if not foreign and algorithms.nearest(method) is None:
            raise
    problem = _unavailable()
    if not problem:
        return JuliaBackend(), algorithms.get(method)
    near = algorithms.nearest(method)
    if near is None:
        raise ValueError(f"{method} is Julia's alone. {problem}")
    warnings.warn(
        f"{method} is Julia's alone. {problem} The torch engine serves with {near}.",
        stacklevel=level_of_caller(),
    )
    return TorchBackend(), registry.get(near)


def native_engine() -> type[NativeEngine]:
    """The native engine. ValueError if a package that it needs is missing."""
    missing = missing_for_native()
    if missing:
        raise ValueError(
            f"backend='native' needs {' and '.join(missing)}: pip install"
            " 'torch-stiff-ode[native]', or use backend='torch'"
        )
    from .native.engine import NativeBackend as NativeEngine

    return NativeEngine


def cuda_engine() -> type[CudaBackend]:
    """The native engine's kernel. ValueError if a package that it needs is missing."""
    missing = missing_for_cuda()
    if missing:
        raise ValueError(
            f"NativeBackend(device='cuda') needs {' and '.join(missing)}: pip install"
            " 'torch-stiff-ode[cuda]' (docs/native.md names the packages for CUDA 12), or use"
            " backend='torch'"
        )
    from .native.cuda.engine import CudaBackend

    return CudaBackend


def _unavailable() -> str:
    """Why Julia cannot run a solve; '' if it can. Starts Julia if it is installed."""
    location = locate()
    if not location.ready:
        return str(location)
    from .julia.runtime import JuliaUnavailable, start

    try:
        start()
    except JuliaUnavailable as error:
        return str(error)
    return ""
