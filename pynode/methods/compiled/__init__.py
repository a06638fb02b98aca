"""Whole steps compiled by torch.compile."""

from .torch_compile import CompiledFunction, compiled_functions

__all__ = ["CompiledFunction", "compiled_functions"]
