"""Makes an old torch for CUDA, installed without its dependencies, serve on the processor alone.
Linux; needs cc and binutils.

Its wheel links to a dozen libraries of CUDA, gigabytes that no test here uses. Each gets a
stand-in: a library with the symbols that torch asks for when it is loaded, and functions that say
that there is no device. torch's own CUDA libraries are set aside, because they ask for much more.
For tests only: what touches CUDA in such an installation is undefined.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# What Python loads; the CUDA libraries beside them; the system's, where other symbols come from.
LOADED = [
    f"lib{name}.so"
    for name in ("torch_python", "torch_cpu", "torch", "shm", "torch_global_deps", "c10")
]
ASIDE = ["libtorch_cuda.so", "libc10_cuda.so"]
SYSTEM = (
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "ld-linux-x86-64.so.2",
)
OF_CUDA = re.compile(r"lib(cu|nccl|nvToolsExt|nvshmem|torch_cuda|c10_cuda)")
SPACE = 8192  # bytes behind every pointer that a function returns


def said(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def symbols(path, kind):
    """Names in the dynamic table, with '@' and the version where they have one; without those that
    may be absent."""
    lines = (line.split() for line in said("nm", "-D", f"--{kind}-only", str(path)).splitlines())
    return {line[-1] for line in lines if line[-2] not in ("w", "v")}


def bare(names):
    return {name.split("@")[0] for name in names}


def assembly(missing):
    """Symbols in x86-64: type infos and tables that may be pointed to, functions that return a
    number or a pointer."""
    yield f".data\n.balign 64\nspace: .fill {SPACE}, 1, 0"
    for i, name in enumerate(sorted(missing)):
        # Of C++: _ZTI type infos, other _ZT tables.
        if name.startswith("_ZTI"):
            yield (
                f'.data\nname{i}: .string "{name[4:]}"\n.balign 16\n.globl "{name}"\n.type'
                f' "{name}", @object'
            )
            yield f'"{name}": .quad _ZTVN10__cxxabiv117__class_type_infoE + 16\n.quad name{i}'
        elif name.startswith("_ZT"):
            yield (
                f'.data\n.balign 16\n.globl "{name}"\n.type "{name}", @object\n"{name}": .fill 256,'
                " 1, 0"
            )
        else:
            none = "device_count" in name or "hasPrimary" in name or "can_use" in name
            result = (
                "xorl %eax, %eax"
                if none
                else "leaq space(%rip), %rax"
                if name.startswith("_Z")
                else "movl $1, %eax"
            )
            yield f'.text\n.globl "{name}"\n.type "{name}", @function\n"{name}": {result}\nret'
    yield '.section .note.GNU-stack, "", @progbits'


def main():
    folder = Path(importlib.util.find_spec("torch").origin).parent / "lib"
    loaded = [folder / name for name in LOADED if (folder / name).exists()]
    undefined = set().union(*(symbols(path, "undefined") for path in loaded))
    system = [said("cc", f"-print-file-name={name}").strip() for name in SYSTEM]
    others = [*loaded, *folder.glob("libgomp*"), *(path for path in system if path.startswith("/"))]
    defined = bare(set().union(*(symbols(path, "defined") for path in others)))
    missing = {name for name in bare(undefined) - defined if not re.match("_?Py", name)}
    for name in ASIDE:
        if (folder / name).exists():
            (folder / "aside").mkdir(exist_ok=True)
            (folder / name).rename(folder / "aside" / name)
    asked = set().union(
        *(re.findall(r"NEEDED.*\[(.*)\]", said("readelf", "-d", str(path))) for path in loaded)
    )
    with tempfile.TemporaryDirectory() as work:
        source, versions = Path(work) / "stand_in.s", Path(work) / "versions"
        source.write_text("\n".join(assembly(missing)) + "\n")
        for name in sorted({*ASIDE, *filter(OF_CUDA.match, asked)}):
            if (folder / name).exists():
                continue
            wanted = {symbol.split("@")[0] for symbol in undefined if symbol.endswith(f"@{name}")}
            versions.write_text(f"{name} {{ global: {'; '.join(sorted(wanted))}; }};\n")
            options = [
                f"-Wl,-soname,{name}",
                *([f"-Wl,--version-script={versions}"] if wanted else []),
            ]
            said(
                "cc",
                "-shared",
                "-Wl,--no-as-needed",
                *options,
                "-o",
                str(folder / name),
                str(source),
                "-lstdc++",
            )
            print(f"stand-in for {name}")


if __name__ == "__main__":
    sys.exit(main())
