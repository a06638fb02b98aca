"""Fields whose parameters FSDP shards over processes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def check_sharding(modules: Iterable[torch.nn.Module]) -> None:
    """Raise ValueError if FSDP shards a module inside a vector field.

    FSDP then gathers the parameters in each call of that module. Hooks on its outputs send their
    gradients. A gradient without a graph of the solve does not run these hooks.
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
                f"FSDP shards a {type(module).__name__} inside the vector field, so its gradient"
                " would be lost: shard the model around the solve instead,"
                " fully_shard(NeuralODE(field)), which gathers the parameters once per solve; or"
                " use adjoint='direct' and no Rosenbrock method; or use torch.no_grad() if you"
                " need no gradient"
            )
