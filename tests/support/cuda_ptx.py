"""The kernels of the native engine compiled without a GPU: types, PTX, and what ptxas says.

    python -m tests.support.cuda_ptx                 # all problems; a line of JSON

It needs numba-cuda and NVIDIA's compiler libraries (libNVVM, libdevice, nvrtc). Where one is
missing it prints why. numba asks the present GPU for its architecture: here it is sm_90.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.support.cuda_rows import KERNEL, network, oscillators, reactions, solved

ARCHITECTURE = (9, 0)
PROBLEMS = {
    "oscillators tsit5": (oscillators, "tsit5"),
    "network tsit5": (network, "tsit5"),
    "reactions rodas5p": (reactions, "rodas5p"),
}


class Gpu:
    """What numba asks of a GPU when it compiles."""

    compute_capability = ARCHITECTURE


def obstacle():
    """Why kernels cannot be compiled here; '' if they can."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "no numba-cuda"
    from numba import cuda, float64
    from numba.cuda import dispatcher

    dispatcher.get_current_device = Gpu
    try:
        cuda.compile_ptx(lambda x: None, (float64[::1],), cc=ARCHITECTURE)
    except Exception as reason:  # each library has an error of its own
        return f"no libNVVM: {type(reason).__name__}: {str(reason).splitlines()[0]}"
    return ""


def compiled(kernel, tensors):
    """What a kernel for these tensors needs on the GPU."""
    from numba import cuda, from_dtype

    kinds = [
        from_dtype(x.numpy().dtype)[(slice(None),) * (x.dim() - 1) + (slice(None, None, 1),)]
        for x in tensors
    ]
    begun = time.perf_counter()
    ptx, _ = cuda.compile_ptx(kernel.py_func, tuple(kinds), cc=ARCHITECTURE)
    found = {"seconds": round(time.perf_counter() - begun, 1), "target": _target(ptx)}
    calls = re.findall(r"\.extern \.func.*?(\w+)\s*\n", ptx)
    found["unresolved"] = [name for name in calls if name != "__assertfail"]
    return {**found, **assembled(ptx)}


def _target(ptx):
    return re.search(r"\.target (\w+)", ptx).group(1)


def assembled(ptx):
    """Registers of a thread, bytes of its local memory, and of spills, by ptxas if it is there."""
    ptxas = shutil.which("ptxas")
    if ptxas is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        target = f"-arch={_target(ptx)}"
        done = subprocess.run(
            [ptxas, "-v", target, str(source), "-o", str(source.with_suffix(".cubin"))],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        return {"ptxas": done.stderr[-2000:]}
    # Of the kernel, which is the entry; its functions come after it.
    entry = done.stderr[done.stderr.index("Compiling entry function") :]
    patterns = {"registers": r"Used (\d+) registers", "local": r"(\d+) bytes stack frame"}
    patterns["spilled"] = r"(\d+) bytes spill stores"
    return {name: int(re.search(p, entry).group(1)) for name, p in patterns.items()}


def kernels(problem, method):
    """Both kernels of a problem: a solve whose launches compile, and run nothing."""
    from pynode.adjoints.native import cuda as sweep
    from pynode.backends.native.cuda import batch, launch, rows

    found = {}

    def compile_only(kernel, count, tensors):
        if kernel not in found:
            found[kernel] = compiled(kernel, tensors)
        if len(found) == 1:
            # Each row has ended with success, without a step.
            given = rows.Batch(*tensors[: len(rows.Batch._fields)])
            given.counts.zero_()
            given.counts[rows.COUNTS.index("position")] = 1
            given.reals[rows.REALS.index("t")] = given.ends

    launch.launch = sweep.launch = compile_only
    batch.simulated = lambda: True  # the states may be on the CPU
    solved(KERNEL, problem(4), method, loss=lambda solution: solution.y[0].sum())
    forward, backward = found.values()
    return {"forward": forward, "backward": backward}


if __name__ == "__main__":
    torch.set_num_threads(1)
    missing = obstacle()
    results: dict = {"missing": missing}
    if not missing:
        names = sys.argv[1:] or list(PROBLEMS)
        results |= {name: kernels(*PROBLEMS[name]) for name in names}
    print(json.dumps(results))
