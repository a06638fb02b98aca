"""A pretended device that is as strict as CUDA, and counts what makes the host wait for it.

    with strict() as waits:
        solve(f, torch.ones(3, device=NAME), [0.0, 1.0])
    waits  # one Wait for each synchronisation

Each operation also runs on fake CUDA tensors, which have no numbers: operands on two devices raise
as they do on CUDA. What it cannot show: streams, missing kernels, captured graphs, memory, speed.

Autograd makes its threads at the first backward pass, for the devices that there are by then.
Gradients on this device therefore need a process where nothing else has gone backwards before.
"""

import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._pytree import tree_flatten, tree_map

from tests.support import ROOT, fused_gru, pretended
from tests.support.pretended import NAME, Distant

aten = torch.ops.aten
PACKAGE = str(ROOT / "pynode") + "/"
OWN = (pretended.__file__, __file__)
TORCH = str(Path(torch.__file__).parent)

INDEXING = (aten.index, aten.index_put, aten.index_put_)
COPIES = (aten.copy_, aten._to_copy, aten.to)
# Fake tensors do these without numbers; CUDA needs the host.
READS = (aten._linalg_check_errors, aten.linalg_eig, aten.linalg_eigvals)


class Wait(NamedTuple):
    """A synchronisation. kind: 'read' where the host waits for numbers of the device, 'sent' where
    it waits until the device has its numbers. place: the line of pynode that asked, and the one
    that called it."""

    kind: str
    operation: str
    place: str


@contextmanager
def strict():
    """Inside, the device exists. Yields the list of the synchronisations so far."""
    watcher = _Watcher()
    pretended.watchers.append(watcher)
    try:
        with pretended.pretended():
            yield watcher.waits
    finally:
        pretended.watchers.remove(watcher)


class _Watcher:
    """Looks at each operation before it runs."""

    def __init__(self):
        self.waits = []
        self._known = {}
        # Autograd's threads run at the same time, and a mode serves one of them.
        self._own = threading.local()

    def __call__(self, function, args, kwargs):
        if function == "tolist":
            self._note("read", function)
            return
        # Autograd's thread for the device has a setting of its own.
        torch._C._set_only_lift_cpu_tensors(True)
        names = [argument.name for argument in function._schema.arguments]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        packet = function.overloadpacket
        kind = _transfer(packet, given)
        if _reads(packet, given) or self._needs_numbers(function, args, kwargs):
            kind = "read"
        if kind is not None:
            self._note(kind, str(function))

    def _note(self, kind, operation):
        self.waits.append(Wait(kind, operation, _place(sys._getframe(2))))

    def _needs_numbers(self, function, args, kwargs):
        """Whether the operation or the shape of its result depends on numbers. Raises for operands
        on two devices."""
        if function.overloadpacket is aten.to or function in fused_gru.KERNELS:
            return False
        if function.overloadpacket in (aten.cat, aten.stack):
            _refuse_two_devices(args[0])
        leaves, structure = tree_flatten((args, kwargs))
        key = (function, structure, *map(_kind, leaves))
        if key not in self._known:
            self._known[key] = self._fake_needs_numbers(function, args, kwargs)
        return self._known[key]

    def _fake_needs_numbers(self, function, args, kwargs):
        if not hasattr(self._own, "fake"):
            self._own.fake = FakeTensorMode(allow_non_fake_inputs=True)
        try:
            with self._own.fake:
                function(*tree_map(_shadow, args), **tree_map(_shadow, kwargs))
        except (DataDependentOutputException, DynamicOutputShapeException):
            return True
        return False


def _refuse_two_devices(tensors):
    """Fake tensors let scalars of the host pass here, which CUDA does not."""
    if len({isinstance(x, Distant) for x in tensors}) > 1:
        raise RuntimeError("expected all tensors to be on the same device")


def _kind(x):
    """What decides the shape and the device of a result."""
    if isinstance(x, torch.Tensor):
        return isinstance(x, Distant), x.dtype, x.shape, x.stride()
    return type(x) if isinstance(x, float) else x


def _shadow(x):
    """The same without numbers."""
    if isinstance(x, torch.Tensor):
        device = "cuda" if isinstance(x, Distant) else "cpu"
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=device)
    if isinstance(x, torch.device) and x.type == NAME:
        return torch.device("cuda")
    return x


def _reads(packet, given):
    """Whether CUDA reads numbers where fake tensors do without."""
    if packet in READS:
        return isinstance(given.get("self", given.get("info")), Distant)
    if packet not in INDEXING or not isinstance(given["self"], Distant):
        return False
    # A mask becomes a list of places. Setting all of them to one number needs no list.
    masked = any(x is not None and x.dtype == torch.bool for x in given["indices"])
    return masked and (packet is aten.index or given["values"].dim() > 0)


def _transfer(packet, given):
    """'read' or 'sent' for a copy that the host waits for, otherwise None."""
    if packet in INDEXING and isinstance(given["self"], Distant):
        return "sent" if any(_is_here(x) for x in given["indices"]) else None
    if packet is aten.where and isinstance(given["condition"], Distant):
        return "sent" if _is_here(given.get("self")) or _is_here(given.get("other")) else None
    if packet not in COPIES:
        return None
    source = given.get("src", given["self"])
    there = isinstance(source, Distant)
    goal = _goal(packet, given, there)
    if goal == there:
        return None
    late = bool(given.get("non_blocking"))
    if goal:
        return None if late and pretended.pinned(source) else "sent"
    # A copy that makes a tensor and does not block takes pinned memory for it.
    if late and (packet is not aten.copy_ or pretended.pinned(given["self"])):
        return None
    return "read"


def _goal(packet, given, there):
    """Whether the result of a copy is on the device. there: whether its source is."""
    if packet is aten.copy_:
        return isinstance(given["self"], Distant)
    if isinstance(given.get("other"), torch.Tensor):
        return isinstance(given["other"], Distant)
    device = given.get("device")
    return there if device is None else torch.device(device).type == NAME


def _is_here(x):
    return isinstance(x, torch.Tensor) and not isinstance(x, Distant)


def _place(frame):
    """The innermost line outside of torch and of this device, and the line of pynode above it."""
    found = []
    while frame is not None and len(found) < 2:
        name = frame.f_code.co_filename
        inside = name.startswith(PACKAGE)
        if inside or (not found and name not in OWN and not name.startswith(TORCH)):
            short = name.removeprefix(PACKAGE) if inside else f"({Path(name).name})"
            found.append(f"{short}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(found) or "autograd"
