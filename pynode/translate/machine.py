"""llvmlite's compiler for this processor: from LLVM's text to object code, and to addresses."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import sys
import threading
from typing import Any

from .refusal import TranslationRefused

_LOCK = threading.Lock()
# Functions of the C mathematics library that native code calls.
LIBRARY = (
    "exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh"
    " atanh erf erfc pow fmod atan2 hypot rint"
).split()


@functools.cache
def _binding() -> Any:
    try:
        import llvmlite.binding as llvm
    except ImportError:
        raise TranslationRefused(
            "Native code needs llvmlite: pip install 'torch-stiff-ode[native]'."
        ) from None
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    _tell_library(llvm)
    return llvm


def _tell_library(llvm: Any) -> None:
    """Give LLVM the addresses of the mathematics library, which differ in name on Windows."""
    if sys.platform == "win32":
        library = ctypes.CDLL("ucrtbase")
    else:
        library = ctypes.CDLL(ctypes.util.find_library("m"))
    for name in LIBRARY:
        function = getattr(library, name, None)
        if function is not None:
            llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)


@functools.cache
def processor() -> str:
    """The processor's name and features, and the compiler's versions: a part of every key."""
    llvm = _binding()
    import llvmlite

    features = llvm.get_host_cpu_features().flatten()
    version = ".".join(map(str, llvm.llvm_version_info))
    name = llvm.get_host_cpu_name()
    return f"{llvmlite.__version__} {version} {llvm.get_process_triple()} {name} {features}"


@functools.cache
def vector_register() -> int:
    """The bytes of the processor's vector registers."""
    features = _binding().get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx") else 16


def _target(level: int) -> Any:
    llvm = _binding()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=level,
        reloc="pic",
        codemodel="jitdefault",
        jit=True,
    )


def compiled(text: str, level: int = 2) -> bytes:
    """The object code of a module in LLVM's language."""
    llvm = _binding()
    with _LOCK:
        machine = _target(level)
        module = llvm.parse_assembly(text)
        module.triple = llvm.get_process_triple()
        module.data_layout = str(machine.target_data)
        options = llvm.create_pipeline_tuning_options(speed_level=level)
        options.loop_vectorization = True
        options.slp_vectorization = level > 1
        options.loop_unrolling = level > 1
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        return machine.emit_object(module)


class Loaded:
    """Object code in memory. It lives as long as this object.

    code: the object code.
    """

    def __init__(self, code: bytes) -> None:
        self.code = code
        llvm = _binding()
        with _LOCK:
            machine = _target(0)
            self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Where a function begins."""
        return self._engine.get_function_address(name)
