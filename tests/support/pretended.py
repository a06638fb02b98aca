"""A device that torch takes for an accelerator, on the CPU: its tensors mix with no others, as
those of a GPU do not, and autograd goes backwards through them on a thread of its own. For what
must be seen of a field on a GPU where there is none.

    with pretended():
        y0 = torch.ones(3, device="pretended")
"""

from contextlib import contextmanager
from functools import cache

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from tests.support import fused_gru

NAME = "pretended"
aten = torch.ops.aten

# Functions of an operation, its positional and its named arguments: each is called before the
# operation runs (strict_device.py).
watchers = []

# Tangents that are zero have no memory, which a tensor around another one needs.
_zeros = {aten._efficientzerotensor.default: aten.zeros.default}

# Products of two matrices, not of a matrix and a vector. The last ones come in inference mode,
# where torch does not divide them.
ROUNDED = (aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten.matmul, aten.linear, aten.einsum)

# The memory that was pinned, by its address. It is kept, so that no other gets the address.
_pinned = {}


class Distant(torch.Tensor):
    """A tensor that says it is there, around one that is here."""

    @staticmethod
    def __new__(cls, inner):
        there = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        there.inner = inner
        return there

    def __repr__(self):
        return f"Distant({self.inner!r})"

    def tolist(self):  # not for subclasses
        for watcher in watchers:
            watcher("tolist", (self,), {})
        return self.inner.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class pretended(TorchDispatchMode):
    """Inside, the device exists. Skips the test where this torch takes no devices made in
    Python."""

    def __init__(self):
        register()
        super().__init__()

    # Torch.tensor(..., device) is made here and sent there, by calls that the mode sees.
    def __enter__(self):
        self.before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *failure):
        torch._C._set_only_lift_cpu_tensors(self.before)
        return super().__exit__(*failure)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


def require():
    """What makes a device in Python. Skips the test where this torch has it not."""
    try:
        from torch.utils.backend_registration import (
            _setup_privateuseone_for_python_backend as setup,
        )
    except ImportError:
        pytest.skip(f"torch {torch.__version__} takes no devices made in Python")
    return setup


class _Module:
    """What torch asks of the module of a device: there is one, and its random numbers are the
    CPU's."""

    def is_initialized(self):
        return True

    is_available = is_initialized

    def _is_in_bad_fork(self):
        return False

    def device_count(self):
        return 1

    current = 0  # the number of the current device; tensors are on device 0

    def current_device(self):
        return self.current

    @contextmanager
    def device(self, index):
        before = self.current
        self.current = index
        try:
            yield
        finally:
            self.current = before

    memory = 0  # bytes

    def mem_get_info(self, device=None):
        return self.memory // 2, self.memory

    def manual_seed_all(self, seed):
        pass

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        torch.set_rng_state(state)


module = _Module()


@cache
def register():
    """Make the device, once in a process."""
    require()(NAME, backend_module=module)


def pinned(x):
    """Whether a tensor of the host is in memory that the device can read by itself."""
    return x.untyped_storage().data_ptr() in _pinned


def _pin(function, args, kwargs):
    """What the operations on pinned memory answer, or None for any other operation."""
    name = function._schema.name
    if name == "aten::is_pinned":
        return pinned(args[0])
    if name == "aten::_pin_memory":
        made = args[0].clone()
    elif kwargs.get("pin_memory"):
        made = function(*args, **{**kwargs, "pin_memory": False})
    else:
        return None
    _pinned[made.untyped_storage().data_ptr()] = made.untyped_storage()
    return made


def _run(function, args, kwargs):
    """An operation, seen by the watchers first."""
    function = _zeros.get(function, function)
    made = _pin(function, args, kwargs)
    if made is not None:
        return made
    for watcher in watchers:
        watcher(function, args, kwargs)
    return _run_inside(function, args, kwargs)


def _rounds(function):
    """Whether the user lets a GPU round the operands of this product."""
    return (
        function.overloadpacket in ROUNDED and torch.backends.cuda.matmul.fp32_precision == "tf32"
    )


def _rounded(x):
    """A float32 tensor with 10 bits after the point, as TF32 has; anything else as it is."""
    if not isinstance(x, torch.Tensor) or x.dtype != torch.float32:
        return x
    return ((x.contiguous().view(torch.int32) + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32)


def _compute(function, args, kwargs, there):
    """The result of an operation on plain tensors. there: whether they were on the device."""
    vector = function.overloadpacket is aten.matmul and args[1].dim() == 1
    if there and not vector and _rounds(function):
        args = tree_map(_rounded, args)
    return fused_gru.KERNELS.get(function, function)(*args, **kwargs)


def _run_inside(function, args, kwargs):
    """The same function on what is inside; its result where its operands are, or where it is asked
    for."""
    name = function._schema.name
    device = kwargs.get("device")
    places = set()

    def inner(x):
        if isinstance(x, Distant):
            places.add(NAME)
            return x.inner
        if isinstance(x, torch.Tensor) and x.dim():  # scalars go with both
            places.add("cpu")
        return x

    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    # In inference mode to(device) comes undivided, with the device among its arguments.
    for x in args:
        if isinstance(x, torch.device):
            device = x
    args = tuple(torch.device("cpu") if isinstance(x, torch.device) else x for x in args)
    bare, named = tree_map(inner, (args, kwargs))
    copies = name in ("aten::_to_copy", "aten::copy_", "aten::to")
    # Indices of the host go with both, too.
    copies |= name.startswith("aten::index") and isinstance(args[0], Distant)
    if len(places) > 1 and not copies:
        raise RuntimeError(f"{name}: tensors on two devices")
    result = _compute(function, bare, named, NAME in places)
    if name == "aten::copy_":
        return args[0]
    there = NAME in places if device is None else torch.device(device).type == NAME
    if not there:
        return result
    known = {id(x.inner): x for x in args if isinstance(x, Distant)}
    for x in known.values():
        if x.shape != x.inner.shape:  # changed in place
            x.data = Distant(x.inner)

    def outer(x):
        if not isinstance(x, torch.Tensor):
            return x
        if id(x) in known:
            return known[id(x)]
        # A view in inference mode shares the version of its base, which a normal tensor has.
        versioned = function.is_view and not args[0].is_inference()
        with torch.inference_mode(torch.is_inference_mode_enabled() and not versioned):
            return Distant(x)

    return tree_map(outer, result)
