"""The tensors that a vector field holds during a solve, for a later gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .leaves import cell_content, tensors_in
from .torch_context import clean_context

# In training mode the backward pass copies buffers of up to this many numbers, because the kernel
# of batch normalisation writes them without a trace.
FEW = 1 << 20
CHANGED = (
    "{} has changed in place since the solve, so pynode can no longer compute its gradient: call"
    " backward() before optimizer.step() and before other changes, or solve again"
)


class ModuleState:
    """Parameters and buffers of the modules of a vector field, and the tensors in its args.

    torch.func.functional_call puts tensors into a module during one call. The backward pass runs
    later and must find the same tensors. roots: the modules that f is, belongs to, or closes over.
    modules: the roots and the modules inside them, without those that TorchScript compiled. copies:
    [(leaf, tensor)] for parameters computed from other tensors. f receives the leaf, so that no
    gradient passes through one parameter into another.
    """

    def __init__(self, f: Callable, device: torch.device, args: object = ()) -> None:
        self.roots = roots = _modules_of(f)
        # A module compiled by TorchScript holds its tensors elsewhere, and functional_call cannot
        # replace them.
        self.modules = [
            m for root in roots for m in root.modules() if not isinstance(m, torch.jit.ScriptModule)
        ]
        self._slots = [
            (holder, name, tensor)
            for module in self.modules
            for holder in (module._parameters, module._buffers)
            for name, tensor in holder.items()
        ]
        self._device = device
        computed = {
            id(x): x
            for _, _, x in self._slots
            if x is not None and x.requires_grad and x.grad_fn is not None
        }
        self._replaced = {key: x.detach().requires_grad_() for key, x in computed.items()}
        self.copies = [(self._replaced[key], x) for key, x in computed.items()]
        self._buffers = [
            x for module in self.modules for x in module._buffers.values() if x is not None
        ]
        self.arguments = tensors_in(args)
        named = []
        if torch.is_grad_enabled():  # otherwise no gradient can ask whether they have changed
            named = self._named(f)
        self._versions = [(name, x, x._version) for name, x in named if not x.is_inference()]
        self._before = [(x, x._version) for x in self._buffers if not x.is_inference()]
        self._writes: bool | None = None
        self._spare: dict[int, int] = {}

    def _named(self, f):
        """[(what to call it, tensor)] of the tensors that must not change before the gradient."""
        named = [("an argument of f in args", x) for x in self.arguments]
        if isinstance(f, torch.nn.Module):
            named += [(f"the parameter {name!r} of f", x) for name, x in f.named_parameters()]
            named += [(f"the buffer {name!r} of f", x) for name, x in f.named_buffers()]
        return named

    def watch(self, parameters: Iterable[Tensor]) -> None:
        """Watch further tensors that must not change in place before the gradient."""
        watched = {id(x) for _, x, _ in self._versions}
        self._versions += [
            (f"a tensor of shape {tuple(x.shape)} that f uses", x, x._version)
            for x in parameters
            if id(x) not in watched and not x.is_inference()
        ]

    def watch_spare(self, leaves: Iterable[Tensor]) -> None:
        """Watch leaves that f may use later. A change counts only for those that f uses."""
        self._spare = {id(x): x._version for x in leaves if not x.is_inference()}

    def check_spare(self, leaves: Iterable[Tensor]) -> None:
        """Raise RuntimeError if one of these leaves has changed in place since the solve."""
        for x in leaves:
            if x._version != self._spare.get(id(x), x._version):
                raise RuntimeError(
                    CHANGED.format(f"a tensor of shape {tuple(x.shape)} that f uses")
                )

    @property
    def from_inference(self) -> bool:
        """Whether f holds tensors made in inference mode."""
        return any(x is not None and x.is_inference() for _, _, x in self._slots)

    @property
    def writes(self) -> bool:
        """Whether f has written its own buffers since the start of the solve, as batch
        normalisation does."""
        return any(x._version != version for x, version in self._before)

    def seal(self) -> None:
        """Mark the end of the solve. Tensors that f itself changed are no longer watched. The
        others must not change."""
        self._writes = self.writes
        self._versions = [entry for entry in self._versions if entry[1]._version == entry[2]]

    def check(self) -> None:
        """Raise RuntimeError if a tensor that f uses has changed in place since the solve."""
        for name, x, version in self._versions:
            if x._version != version:
                raise RuntimeError(CHANGED.format(name))

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """A block in which leaves replace the computed parameters of f."""
        slots = [(holder, name, x) for holder, name, x in self._slots if id(x) in self._replaced]
        try:
            for holder, name, x in slots:
                holder[name] = self._replaced[id(x)]
            yield
        finally:
            for holder, name, x in slots:
                holder[name] = x

    @contextmanager
    def restored(self, parameters: Iterable[Tensor]) -> Iterator[None]:
        """Context in which the modules hold the tensors they had during the solve, with a clean
        torch context.

        Parameter hooks are disabled: they must see only the final gradient. Buffers that f may
        write are copies, so the block changes no buffer.
        """
        swapped = [(holder, name, self.inside(x)) for holder, name, x in self._slots]
        copied = self._copied()
        # During the backward pass FullyShardedDataParallel moves parameters out of these dicts.
        swapped = [
            (holder, name, copied.get(id(x), x)) for holder, name, x in swapped if name in holder
        ]
        changed = [
            (holder, name, holder[name], x) for holder, name, x in swapped if holder[name] is not x
        ]
        hooked = [(p, p._backward_hooks) for p in parameters if p._backward_hooks]
        try:
            for holder, name, _, x in changed:
                holder[name] = x
            for p, _ in hooked:
                p._backward_hooks = None
            with clean_context(self._device):
                yield
        finally:
            for holder, name, before, _ in changed:
                holder[name] = before
            for p, hooks in hooked:
                p._backward_hooks = hooks

    def inside(self, x: Tensor) -> Tensor:
        """The tensor that f receives instead of the tensor x of one of its modules."""
        return self._replaced.get(id(x), x)

    def _copied(self):
        """{id: copy} of the buffers that f may write."""
        if self._writes is None:
            writes = self.writes
        else:
            writes = self._writes
        if not writes:
            training = any(module.training for module in self.modules)
            if not training or sum(x.numel() for x in self._buffers) > FEW:
                return {}
        return {id(x): x.detach().clone() for x in self._buffers if not x.requires_grad}


class HeldTensors:
    """The tensors that the modules of a field hold now."""

    def __init__(self, f: Callable) -> None:
        # Before each native solve with a gradient: modules() takes three times as long.
        self._held = []
        todo = _modules_of(f)
        seen = set()
        while todo:
            module = todo.pop()
            if module is None or module in seen or isinstance(module, torch.jit.ScriptModule):
                continue
            seen.add(module)
            todo += module._modules.values()
            for holder in (module._parameters, module._buffers):
                if holder:
                    self._held.append((holder, dict(holder)))

    @contextmanager
    def restored(self) -> Iterator[None]:
        """A block in which the modules hold them again."""
        changed = [
            (holder, name, holder[name], x)
            for holder, before in self._held
            for name, x in before.items()
            if name in holder and holder[name] is not x
        ]
        try:
            for holder, name, _, x in changed:
                holder[name] = x
            yield
        finally:
            for holder, name, after, _ in changed:
                holder[name] = after


def _modules_of(f) -> list:
    """The modules that f is, belongs to, or closes over."""
    if isinstance(f, functools.partial):
        return _modules_of(f.func)
    cells = [cell_content(cell) for cell in getattr(f, "__closure__", None) or ()]
    candidates = [f, getattr(f, "__self__", None), *cells]
    return [x for x in candidates if isinstance(x, torch.nn.Module)]
