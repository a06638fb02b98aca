"""numba compiles a function that others call in the shortest way: it neither optimises it nor makes
machine code of it.

numba finishes each function by itself, although the caller then takes it in and finishes the whole
again. With some ninety functions in layers this is half of the time. Here LLVM optimises only the
whole, which is the same code.
"""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def options() -> dict[str, Any]:
    """Further options of numba's jit for a function that only compiled functions call. None with a
    numba that works in another way: it then compiles as usual, in twice the time."""
    try:
        from numba.core.codegen import JITCodeLibrary
        from numba.core.compiler import Compiler
    except ImportError:
        return {}
    if not all(map(functools.partial(hasattr, JITCodeLibrary), _REPLACED)):
        return {}

    class Part(JITCodeLibrary):
        """The code of a function, for its callers."""

        @property
        def codegen(self):
            return _WithoutEnvironments(self._codegen)

        def _optimize_final_module(self):
            """The caller's library is optimised as a whole."""

        def _finalize_final_module(self):
            self._finalize_dynamic_globals()
            self._finalized = True

        def get_pointer_to_function(self, name):
            self._ensure_finalized()
            return 0  # as for a function that does not exist

    class PartCompiler(Compiler):
        def __init__(self, typingctx, targetctx, library, args, return_type, flags, locals):
            if library is None:
                library = Part(targetctx.codegen(), "part")
            super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)

    return {"pipeline_class": PartCompiler}


_REPLACED = (
    "codegen",
    "_optimize_final_module",
    "_finalize_final_module",
    "_finalize_dynamic_globals",
    "_ensure_finalized",
    "get_pointer_to_function",
)


class _WithoutEnvironments:
    """numba's code generator. It sets no environments: they are for Python's globals, which these
    functions do not use, and lie in machine code that a part does not have."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def set_env(self, name: str, env: Any) -> None:
        """Nothing to do."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)
