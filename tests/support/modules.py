"""Modules in the forms that PyTorch gives them."""

import copy


def replica(module):
    """As torch.nn.parallel.replicate makes them: no parameters, but tensors computed from those of
    the module."""
    made = copy.copy(module)
    made._parameters, made._modules = {}, {k: replica(m) for k, m in module._modules.items()}
    for name, parameter in module._parameters.items():
        object.__setattr__(made, name, parameter * 1.0)
    return made
