"""The tensors that modules hold while a solve runs, for the gradient that is taken later."""

from __future__ import annotations

from contextlib import contextmanager

import torch

from .surroundings import quiet


class Held:
    """Parameters and buffers of the modules that a vector field is, belongs to, or closes over, as they are now.

    torch.func.functional_call puts tensors into a module for the time of one call. The backward pass comes after it, and
    must find them there. roots: the modules named above; modules: these and those inside them, compiled by TorchScript aside.
    """

    def __init__(self, f, device):
        cells = [_content(cell) for cell in getattr(f, "__closure__", None) or ()]
        self.roots = roots = [x for x in (f, getattr(f, "__self__", None), *cells) if isinstance(x, torch.nn.Module)]
        # What TorchScript has compiled holds its tensors elsewhere, and functional_call cannot replace them.
        self.modules = [m for root in roots for m in root.modules() if not isinstance(m, torch.jit.ScriptModule)]
        self._slots = [
            (holder, name, tensor) for module in self.modules
            for holder in (module._parameters, module._buffers) for name, tensor in holder.items()
        ]
        self._device = device.type

    @contextmanager
    def again(self, parameters):
        """The modules as they were, within the block, and nothing around it that the solve stepped out of.

        Hooks of the parameters rest: they are for the gradient that comes out, not for the parts that it is made of.
        """
        # What FullyShardedDataParallel has made an attribute for the backward pass is none of these.
        changed = [
            (holder, name, holder[name]) for holder, name, tensor in self._slots if holder.get(name, tensor) is not tensor
        ]
        hooked = [(p, p._backward_hooks) for p in parameters if p._backward_hooks]
        try:
            if changed:
                for holder, name, tensor in self._slots:
                    if name in holder:
                        holder[name] = tensor
            for p, _ in hooked:
                p._backward_hooks = None
            with quiet(self._device):
                yield
        finally:
            for holder, name, tensor in changed:
                holder[name] = tensor
            for p, hooks in hooked:
                p._backward_hooks = hooks


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None
