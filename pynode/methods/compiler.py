"""torch.compile as solves use it: functions that are kept in the module they belong to, compared with what they compile before
anybody gets their results, and whose failures are sentences."""

from __future__ import annotations

import contextlib
import logging
import re
import weakref

import torch

_KEPT = "_pynode_compiled"


class Uncompilable(ValueError):
    """The compiler does not take the function."""


class Kept(dict):
    """The compiled functions of one module, kept in it. A copy or a replica has tensors of its own, and starts without any."""

    def __init__(self, owner=None):
        super().__init__()
        self.owner = None if owner is None else weakref.ref(owner)

    @classmethod
    def of(cls, module):
        # A module that is made anew for every solve names the one inside that lasts.
        while (lasting := getattr(module, "pynode_lasting", None)) is not None:
            module = lasting
        kept = module.__dict__.get(_KEPT)
        if kept is None or kept.owner is None or kept.owner() is not module:
            kept = module.__dict__[_KEPT] = cls(module)
        return kept

    def __deepcopy__(self, memo):
        return Kept()

    def __reduce__(self):
        return Kept, ()


class Compiled:
    """The function that make() returns, with what it is made of: (function, attempt), compiled.

    module: keeps it under the key. compare(function, attempt, *inputs) raises where the compiled function errs (``agree``), and
    is called once, with the inputs of the first call. graphed: as CUDA graphs, where the device has them.
    """

    def __init__(self, module, key, make, compare, backend, device, graphed=False):
        kept, key = Kept.of(module), (*key, backend, device)
        if key not in kept:
            function, attempt = make()
            # A code object of its own: torch.compile counts its recompilations, and limits them, by these.
            function.__code__ = function.__code__.replace()
            options = {"guard_filter_fn": _guards(function.__code__.co_freevars), **_options(backend, device, graphed)}
            kept[key] = torch.compile(function, fullgraph=True, dynamic=False, backend=backend, options=options)
            kept[key, "attempt"] = attempt  # until it was compared with
        self.function, self.compare = kept[key], compare
        self.unproven = (lambda: kept.pop((key, "attempt"))) if (key, "attempt") in kept else None

    def __call__(self, *inputs):
        try:
            if self.unproven is not None:
                with _quiet():
                    self.compare(self.function, self.unproven(), *inputs)
                self.unproven = None
            return self.function(*inputs)
        except Exception as error:
            if type(error).__module__.split(".")[:2] not in (["torch", "_dynamo"], ["torch", "_inductor"]):
                raise
            said = str(error).strip().splitlines()
            raise Uncompilable(
                "the steps cannot be compiled: f must be one graph of torch operations, without branches on values, RejectStep "
                "or calls into NumPy, and a C++ compiler be there; leave compile away "
                f"({said[0] if said else type(error).__name__})"
            ) from error


def agree(found, expected, y, tol=None):
    """ValueError where what a compiled function found is not what was expected, both (..., n), but for rounding in y, (..., n);
    along the last dimension values may be of any size.

    Compilers have bugs, and these would go unnoticed."""
    tol = tol or (1e-3 if y.dtype == torch.float32 else 1e-8)
    size = expected.abs().amax(-1, keepdim=True)
    rounding = 1e3 * torch.finfo(y.dtype).eps * y.abs().amax(-1, keepdim=True)
    far = (found - expected).abs() > tol * size + rounding
    if bool((far | (found.isnan() != expected.isnan())).any()):
        error = float(((found - expected).abs() / size).nan_to_num().max())
        raise ValueError(
            f"torch.compile makes steps on this field that are wrong, by {error:.1g} of their size: leave compile away, or "
            "name another backend, compile='aot_eager'"
        )


def without_zeros(y):
    """A state near y, (..., n), at which all of the Jacobian shows."""
    near = torch.cos(torch.arange(y.shape[-1], dtype=y.dtype, device=y.device)) * 0.1
    return y + near * (y.abs() + y.abs().mean(-1, keepdim=True) + 1e-3)


def _options(backend, device, graphed):
    """What the compiler is told beside the graph."""
    if backend != "inductor":
        return {}
    return {"cpp_wrapper": True} if device.type == "cpu" else {"triton.cudagraphs": graphed}


def _guards(own):
    """Which of the conditions that every call would check are checked: some twenty on the inputs and f, in place of 500.

    own: names of what the function closes over, tableaus and layouts, which never change; nor do torch's own modules, but for
    the hooks of all modules."""

    def wanted(entry):
        name = entry.name
        if name.startswith(("G['__import_torch_dot_", "__import__('torch')")):
            return "nn_dot_modules" in name
        return re.split(r"\W", name, maxsplit=1)[0] not in own

    return lambda entries: [wanted(entry) for entry in entries]


@contextlib.contextmanager
def _quiet():
    """Inductor warns that LAPACK is called in a slower way than other operations; there is nothing to be done about it."""
    logger = logging.getLogger("torch._inductor.ir")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
