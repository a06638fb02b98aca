"""The engine of a training run, if the options leave it open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from ..backends.packages import missing_for_native
from ..backends.registry import native_engine
from .inputs import Inputs, driven
from .options import Options


def with_engine(
    options: Options, field: nn.Module, start: torch.Tensor, inputs: Inputs | None = None
) -> tuple[Options, str]:
    """(options with a backend, what was chosen, in one sentence, or '' if the user chose it).

    Native code serves where it is installed, has the method and can translate the field. Otherwise
    the torch engine does. field: like those of the run. start: a scaled state, (n,). inputs: of the
    data, if they have any.
    """
    if options.backend != "auto":
        return options, ""
    example, _ = driven(field, None if inputs is None else inputs.table())
    problem = no_native_code(options.method, example, start)
    if problem:
        return options, f"Engine: torch. {problem}"
    return replace(options, backend="native"), "Engine: native code."


def no_native_code(method: str, field: Callable[..., torch.Tensor], start: torch.Tensor) -> str:
    """Why native code does not serve; '' if it does. start: a state of the field, (n,)."""
    missing = missing_for_native()
    if missing:
        return f"Native code needs {' and '.join(missing)}: pip install 'torch-stiff-ode[native]'."
    engine = native_engine()
    try:
        if method != "auto":
            engine.method(method)
    except (ValueError, TypeError) as error:
        return f"No native code: {str(error).rstrip('.?')}."
    from ..backends.native.fields import refusal

    return refusal(field, start, 0.0)
