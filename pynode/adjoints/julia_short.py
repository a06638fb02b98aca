"""The gradient of a short solve by Julia (solve_short.py), by the native Gauss adjoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ..backends.julia.request import GradientRequest
from ..backends.julia.runtime import start
from .base import Rules, only_first
from .julia import NATIVE, JuliaAdjoint, pulled, reverse_atol
from .short import ShortGradient

if TYPE_CHECKING:
    from ..backends.julia.algorithms import JuliaMethod
    from ..backends.julia.entries import Kept
    from ..core.problem import ODEProblem
    from ..core.stats import Stats


class JuliaShortGradient(ShortGradient):
    """method: of the forward solve; rtol: of it, which the reverse solve has too."""

    def __init__(
        self,
        problem: ODEProblem,
        path: Any,
        stats: Stats,
        inputs: Sequence[Tensor],
        method: JuliaMethod,
        rtol: float,
    ) -> None:
        super().__init__(problem, path, stats, inputs)
        self._adjoint = JuliaAdjoint(NATIVE)
        self._method = method
        self._rtol = rtol

    @property
    def rules(self) -> Rules:
        return Rules(self.pullback, self.second, None)

    def second(self, grads: Tensor, vectors: Sequence[Tensor]) -> Any:
        """Refuse second derivatives."""
        only_first(NATIVE)

    def pullback(self, grads: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(cotangent of the start (n,), those of the inputs). grads: (T, n)."""
        self.check()
        path = self.path
        targets = path.bound.targets
        later = grads[1:].contiguous()
        largest = float(later.abs().max())
        if not math.isfinite(largest):
            # The solver cannot integrate NaN. A sum over steps would give NaN as well.
            return grads[0] + math.nan, self.of_inputs([x * math.nan for x in targets])
        if largest == 0.0:
            return grads[0].clone(), self.of_inputs([torch.zeros_like(x) for x in targets])
        dy0, dp = self._pulled(later)
        pieces = dp.split([x.numel() for x in targets])
        found = self.of_inputs([part.view_as(x) for part, x in zip(pieces, targets, strict=True)])
        return grads[0] + dy0, found

    def _pulled(self, cotangents):
        """(cotangent of the start, of all targets). cotangents: (T - 1, n) of the later outputs."""
        path = self.path
        julia = start()
        reverse = self._adjoint.reverse(self._method)
        request = GradientRequest()
        request.rtol = self._rtol
        request.atol, request.scaled = reverse_atol(self._rtol, None)
        request.algorithm = julia.algorithm(reverse.name)
        request.t1 = path.inner(path.t)
        request.seconds = math.inf
        times = [path.inner(t) for t in path.times[1:]]
        count = sum(x.numel() for x in path.bound.targets)
        kept = cast("Kept", path.kept)
        request.kept = kept.number
        serve = partial(julia.entries.gradient, request)
        with kept.lock:
            result = pulled(request, NATIVE, times, cotangents, count, serve)
        self._adjoint.check_end(path, reverse, path.clock, request.reached)
        self.stats.backward_nvjp += request.nvjp
        self.stats.backward_njac += request.njac
        return result
