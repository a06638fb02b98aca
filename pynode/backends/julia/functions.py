"""The native functions of a field, for Julia to call without Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..native.repair import repairs, where

if TYPE_CHECKING:
    from ..native.fields import BoundField
    from .algorithms import JuliaMethod
    from .request import Request

MOST = 32  # of one field, at most


class NativeFunctions:
    """Addresses of what a method needs of a field.

    bound: the field; what is made here does not depend on its present tensors. method: whether it
    is implicit decides whether there is a Jacobian. structure: of the Jacobian: 'dense', 'sparse'
    or 'krylov'. gradient: whether the products of an adjoint are needed too. Raises
    TranslationRefused if one of the functions cannot be made.
    """

    def __init__(
        self, bound: BoundField, method: JuliaMethod, structure: str, gradient: bool
    ) -> None:
        # Objects that must stay while Julia may call: code, and memory behind the addresses.
        self._held: list[Any] = []
        self.work = 1
        self.fields: dict[str, int] = {}
        self._add(bound, "native_f", "f")
        if gradient:
            self._add(bound, "native_vjp", "vjp")
            self._add(bound, "native_vjp_p", "vjp_p")
        if method.implicit and structure == "krylov":
            self._add(bound, "native_jvp", "jvp")
        elif method.implicit:
            self._add(bound, "native_jac", "jac")
            self._add_pattern(bound, structure)
            if method.asks_time_derivative:
                self._add(bound, "native_jac_time", "jac_time")
            repair = repairs(bound)
            self._held.append(repair)
            self.fields["native_repair"] = where(repair)
        self.fields["work"] = self.work

    def _add(self, bound, field, name):
        function = bound.function(name)
        self._held.append(function)
        self.fields[field] = function.address
        self.work = max(self.work, function.work)

    def _add_pattern(self, bound, structure):
        """Where the values of the Jacobian go in Julia's matrix."""
        n = bound.n
        rows, columns = bound.pattern()
        places = columns * n + rows
        if structure == "sparse":
            # SciML's matrix has its diagonal in any case.
            diagonal = np.arange(n) * (n + 1)
            whole = np.union1d(places, diagonal)
            starts = np.searchsorted(whole, np.arange(n + 1) * n) + 1
            row_numbers = whole % n + 1
            places = np.searchsorted(whole, places)
            self._keep("colptr", starts)
            self._keep("rowval", row_numbers)
            self.fields["nonzeros"] = len(whole)
        self._keep("places", places + 1)
        self.fields["entries"] = len(places)

    def _keep(self, name, numbers):
        """The address of numbers, which stay."""
        numbers = np.ascontiguousarray(numbers, dtype=np.int64)
        self._held.append(numbers)
        self.fields[name] = numbers.ctypes.data

    def fill(self, request: Request) -> None:
        """Write the addresses into a request."""
        for name, value in self.fields.items():
            setattr(request, name, value)


def native_functions(
    bound: BoundField, method: JuliaMethod, structure: str, gradient: bool
) -> NativeFunctions:
    """The NativeFunctions of a field, kept with its code."""
    key = ("julia", method, structure, gradient)
    found = bound.kept.get(key)
    if found is None:
        found = NativeFunctions(bound, method, structure, gradient)
        while len(bound.kept) >= MOST:
            bound.kept.pop(next(iter(bound.kept)), None)
        bound.kept[key] = found
    return found
