"""Captured graphs on the CPU: the operations of a function are written down, and run again without
Python on the same tensors, as a CUDA graph does. A block that depends on more than numbers in
tensors is wrong when it runs again.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Recorder(TorchDispatchMode):
    """Writes down each operation, with its inputs and its results."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        results = function(*args, **kwargs)
        given = {_memory(x) for x in _tensors((args, kwargs))}
        made = [_memory(x) not in given for x in _tensors(results)]
        if function._schema.is_mutable or any(made):
            self.operations.append((function, args, kwargs, results))
        return results


def _tensors(tree):
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


def _memory(x):
    return x.untyped_storage().data_ptr()


def captured(function):
    """The operations of function() to run again. They run at once, and the first call of the result
    does nothing: together that is a capture, which runs nothing, and its first replay. calls: of
    the result, a list."""
    with _Recorder() as recorder:
        function()
    calls = []

    def replay():
        calls.append(1)
        if len(calls) == 1:
            return
        for operation, args, kwargs, results in recorder.operations:
            again = operation(*args, **kwargs)
            for old, new in zip(_tensors(results), _tensors(again), strict=True):
                if _memory(old) != _memory(new):
                    old.copy_(new)

    replay.calls = calls
    return replay
