"""The kernel as an engine of ``solve``: for the rows of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ....methods import registry
from .. import explicit, rosenbrock
from ..engine import checked
from ..families import FAMILIES

if TYPE_CHECKING:
    from ....methods.base import Method

KERNELS = (explicit, rosenbrock)  # the families of methods that it runs


class CudaBackend:
    """The native engine's loop as one kernel on a GPU, a thread for a row."""

    name = "cuda"

    @staticmethod
    def method(name: str | type[Method] | Method) -> Method:
        """The Method of this name. ValueError for a method that the kernel does not run."""
        method = checked(registry.get(name))
        if FAMILIES.get(method) not in KERNELS:
            raise ValueError(
                f"the kernel of the native engine has no {method.name}: choose an explicit or a"
                " Rosenbrock method ('tsit5', 'rodas5p'), or backend='native' or 'torch'"
            )
        return method

    @staticmethod
    def twin(method: Method) -> Method:
        """The method of the torch engine that repeats what this one did."""
        return method

    @staticmethod
    def integrate(*arguments: Any, **keywords: Any) -> NoReturn:
        """ValueError: one system has no use for a GPU's threads."""
        raise ValueError(
            "the kernel of the native engine takes the rows of a batch: pass batched=True, or"
            " backend='native'"
        )
