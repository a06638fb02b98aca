"""The two-dimensional Brusselator, 2 N^2 unknowns: pynode's structures beside SciPy's BDF with the
sparsity given.

Every contestant solves it once in a process of its own, on the same torch field and one thread, at
the same rtol and atol:

  sparse        pynode QNDF, pattern detected, coloured Jacobian, SuperLU
  pattern       the same with the pattern given
  krylov        pynode QNDF, GMRES without a preconditioner
  krylov-fft    pynode QNDF, GMRES preconditioned by the diffusion, inverted by the fast Fourier
                transform
  scipy         SciPy BDF with jac_sparsity, which colours finite differences and calls SuperLU

seconds: of the solve, detection and colouring included; cpu: the same of the processor. peak:
largest resident memory of the process in MB, of which import takes the part named base. error:
largest difference from a run of krylov-fft at rtol and atol a thousandth, beside the largest value.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from benchmarks.apart import apart, peak
from pynode.methods import QNDF

CONTESTANTS = ("sparse", "pattern", "krylov", "krylov-fft", "scipy")


def contest(name: str, size: int, end: float, rtol: float, atol: float, folder: Path) -> dict:
    """One solve by one contestant in this process; its final state goes to the folder."""
    import numpy as np
    import torch

    import pynode
    from pynode.problems.brusselator import brusselator

    torch.set_num_threads(1)
    problem = brusselator(size=size)
    field = problem.field.requires_grad_(False)
    if name == "scipy":
        import scipy.integrate
        import scipy.sparse
    row = {"name": name, "base": peak()}
    start, busy = time.perf_counter(), time.process_time()
    if name == "scipy":
        pattern = field.pattern()
        entries = (np.ones(pattern.values().numel()), tuple(pattern.indices().numpy()))
        sparsity = scipy.sparse.csc_matrix(entries, shape=tuple(pattern.shape))

        def f(t, y):
            with torch.inference_mode():
                return field(t, torch.from_numpy(y)).numpy()

        found = scipy.integrate.solve_ivp(
            f,
            (0.0, end),
            problem.y0.numpy(),
            method="BDF",
            rtol=rtol,
            atol=atol,
            jac_sparsity=sparsity,
        )
        y, work = (
            found.y[:, -1],
            {"steps": found.t.size - 1, "nfe": found.nfev, "nlu": found.nlu, "njvp": 0},
        )
    else:
        structure = {
            "sparse": lambda: pynode.Sparse(),
            "pattern": lambda: pynode.Sparse(field.pattern()),
            "krylov": lambda: pynode.Krylov(),
            "krylov-fft": lambda: pynode.Krylov(field.precond),
        }[name]()
        found = pynode.solve(
            field, problem.y0, (0.0, end), method=QNDF(jacobian=structure), rtol=rtol, atol=atol
        )
        y, stats = found.y[-1].numpy(), found.stats
        work = {"steps": stats.accepted, "nfe": stats.nfe, "nlu": stats.nlu, "njvp": stats.njvp}
    row |= {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - busy,
        "peak": peak(),
        **work,
    }
    np.save(folder / f"{name}.npy", y)
    return row


def measured(name: str, args, folder: Path, factor: float = 1.0) -> dict:
    """The same in a process of its own, at tolerances times factor."""
    options = {
        "--size": args.size,
        "--end": args.end,
        "--rtol": args.rtol * factor,
        "--atol": args.atol * factor,
    }
    return apart(
        "benchmarks.brusselator",
        "--only",
        name,
        "--folder",
        folder,
        *[x for pair in options.items() for x in pair],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=128, help="N, grid points a side (128)")
    parser.add_argument("--end", type=float, default=1.0, help="end of the time span from 0 (1.0)")
    parser.add_argument("--rtol", type=float, default=1e-5)
    parser.add_argument("--atol", type=float, default=1e-6)
    parser.add_argument("--contestants", nargs="+", default=CONTESTANTS, choices=CONTESTANTS)
    parser.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(
            json.dumps(contest(args.only, args.size, args.end, args.rtol, args.atol, args.folder))
        )
        return
    import numpy as np

    print(
        f"Brusselator, {2 * args.size**2} unknowns, t from 0 to {args.end:g}, rtol {args.rtol:g},"
        f" atol {args.atol:g}"
    )
    columns = {
        "seconds": 2,
        "cpu": 2,
        "peak": 0,
        "base": 0,
        "steps": 0,
        "nfe": 0,
        "nlu": 0,
        "njvp": 0,
    }
    print(f"{'':12}" + "".join(f"{name:>9}" for name in (*columns, "error")))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured("krylov-fft", args, folder, factor=1e-3)
        reference = np.load(folder / "krylov-fft.npy")
        for contestant in args.contestants:
            row = measured(contestant, args, folder)
            error = (
                np.abs(np.load(folder / f"{contestant}.npy") - reference).max()
                / np.abs(reference).max()
            )
            cells = "".join(f"{row[name]:9.{digits}f}" for name, digits in columns.items())
            print(f"{contestant:12}{cells}{error:9.1e}", flush=True)


if __name__ == "__main__":
    main()
