"""Fields whose parameters are spread over processes by FSDP."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def check_sharding(modules: Iterable[torch.nn.Module]) -> None:
    """ValueError where FSDP shards one of the modules of a vector field by itself.

    It then gathers the parameters in each call of that module, and sends their gradients on from
    hooks on its outputs, of which a gradient that is made without a graph of the solve knows
    nothing.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None:
        return
    kinds = tuple(
        getattr(fsdp, name)
        for name in ("FSDPModule", "FullyShardedDataParallel")
        if hasattr(fsdp, name)
    )
    for module in modules:
        if isinstance(module, kinds) and any(p.requires_grad for p in module.parameters()):
            raise ValueError(
                f"FSDP shards a {type(module).__name__} inside the vector field, whose gradient"
                " would be lost: shard the model around the solve instead,"
                " fully_shard(NeuralODE(field)), so that it gathers the parameters once a solve;"
                " or take adjoint='direct' and no Rosenbrock method, or torch.no_grad() where no"
                " gradient is wanted"
            )
