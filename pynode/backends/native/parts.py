"""numba compiles a function that others call in the shortest way: it neither optimises it nor makes
machine code of it.

numba finishes each function by itself, with all functions that it calls, although the caller then
takes them in and finishes the whole again. With some ninety functions in layers this is most of the
time. Here the functions stay apart until the whole takes all of them in, and LLVM optimises only
the whole, which is the same code.
"""

from __future__ import annotations

import functools
from typing import Any


def part_options() -> dict[str, Any]:
    """Further options of numba's jit for a function that only compiled functions call. None with a
    numba that works in another way: it then compiles as usual, in several times the time."""
    return _pipelines()[0]


def whole_options() -> dict[str, Any]:
    """The same for the function that calls the others."""
    return _pipelines()[1]


@functools.cache
def _pipelines() -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        from numba.core.codegen import JITCodeLibrary
        from numba.core.compiler import Compiler
    except ImportError:
        return {}, {}
    if not all(map(functools.partial(hasattr, JITCodeLibrary), _REPLACED)):
        return {}, {}

    class Part(JITCodeLibrary):
        """The code of a function, for its callers."""

        @property
        def codegen(self):
            return _WithoutEnvironments(self._codegen)

        def finalize(self):
            """The whole takes in the functions that this one calls."""
            self._finalize_dynamic_globals()
            self._finalized = True

        def _optimize_functions(self, ll_module):
            """The whole is optimised."""
            ll_module.data_layout = self._codegen._data_layout

        def get_pointer_to_function(self, name):
            self._ensure_finalized()
            return 0  # as for a function that does not exist

    class Whole(JITCodeLibrary):
        """The code of the function that calls the others."""

        def finalize(self):
            """Take in all functions that it reaches."""
            self._linking_libraries = list(_reached(self))
            super().finalize()

    return _pipeline(Compiler, Part), _pipeline(Compiler, Whole)


def _reached(library):
    """The libraries of all functions that a library calls, each once."""
    seen = {}
    todo = list(library._linking_libraries)
    while todo:
        item = todo.pop()
        if item not in seen:
            seen[item] = True
            todo += item._linking_libraries
    return seen


def _pipeline(base, library_class):
    """The options for a compiler whose functions have libraries of this class."""

    class PartCompiler(base):
        def __init__(self, typingctx, targetctx, library, args, return_type, flags, locals):
            if library is None:
                library = library_class(targetctx.codegen(), "part")
                library.enable_object_caching()
            super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)

    return {"pipeline_class": PartCompiler}


_REPLACED = (
    "codegen",
    "_optimize_final_module",
    "finalize",
    "_optimize_functions",
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
