"""Memory of a gradient over the number of steps: all states kept, and
DiscreteAdjoint(checkpoints=k).

Every row is one gradient in a process of its own: RK4 or FBDF on so many steps of a state of n
components (a ring of coupled oscillators, with diffusion for FBDF). forward, backward: MB by which
the resident memory has grown at most when the solve, and then its gradient, were done; kept: MB in
the recorded steps or points, and in the times, sizes and list of the steps; again: steps repeated
on the way back in units of the steps; seconds: processor time of the solve and of its gradient;
difference: of the gradient from that of all states relative to its largest entry, where both were
run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from benchmarks.apart import apart, peak
from pynode.methods.registry import get


def numbers(held, seen) -> int:
    """Bytes of all tensors in nested tuples, lists and recorded steps, each memory once."""
    import torch

    from pynode.backends.torch.checkpoints import Point
    from pynode.methods.base import Step

    if isinstance(held, torch.Tensor):
        new = held.untyped_storage().data_ptr() not in seen
        seen.add(held.untyped_storage().data_ptr())
        return held.untyped_storage().nbytes() if new else 0
    if isinstance(held, Step):
        held = (held.start, held.y, held.tape, held.before)
    if isinstance(held, (list, tuple, Point)):
        return sum(numbers(part, seen) for part in held)
    return 0


def gradient(method: str, steps: int, size: int, checkpoints: int) -> dict:
    """One gradient in this process; checkpoints 0 keeps all states."""
    import torch

    import pynode

    torch.set_num_threads(1)
    rate = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    y0 = torch.cos(torch.linspace(0, 12.566, size, dtype=torch.float64)).requires_grad_()

    def f(t, y):
        return rate * (y.roll(1) - 2 * y + y.roll(-1)) - torch.sin(y) * torch.cos(t)

    def solve(count):
        adjoint = pynode.DiscreteAdjoint(checkpoints=checkpoints or None)
        options = {"step_size": 0.01} if method == "rk4" else {"max_step": 0.01}
        structure = "dense" if method == "rk4" else pynode.Krylov()
        times = [0.0, 0.01 * count]
        return pynode.solve(
            f,
            y0,
            times,
            method=get(method, jacobian=structure),
            adjoint=adjoint,
            params=[rate],
            max_steps=10**7,
            **options,
        )

    solve(20).y[-1].sum().backward()  # what is made once is made
    y0.grad = rate.grad = None
    base, busy = peak(), time.process_time()
    solution = solve(steps)
    forward, recording = peak() - base, solution._trajectory.recording
    seen = set()
    kept = numbers(recording.steps, seen) + numbers(recording.points, seen)
    kept += sum(sys.getsizeof(x) for x in (recording.starts, recording.sizes, recording.refused))
    solution.y[-1].square().sum().backward()
    row = {
        "method": method,
        "steps": solution.stats.accepted,
        "k": checkpoints,
        "forward": forward,
        "backward": peak() - base,
    }
    row |= {"kept": kept / 1e6, "again": solution.stats.backward_steps / solution.stats.accepted}
    return row | {
        "seconds": time.process_time() - busy,
        "gradient": [float(rate.grad), float(y0.grad.sum())],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, nargs="+", default=(1_000, 10_000, 100_000))
    parser.add_argument("--size", type=int, default=1_000, help="n, components of the state (1000)")
    parser.add_argument("--checkpoints", type=int, default=64, help="k, states kept (64)")
    parser.add_argument("--methods", nargs="+", default=("rk4", "fbdf"), choices=("rk4", "fbdf"))
    parser.add_argument(
        "--all-up-to",
        type=int,
        default=10_000,
        help="steps up to which all states are kept as well (10000)",
    )
    parser.add_argument("--only", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        method, *counts = args.only
        print(json.dumps(gradient(method, *map(int, counts))))
        return
    columns = {"steps": 0, "k": 0, "forward": 1, "backward": 1, "kept": 2, "again": 2, "seconds": 1}
    print(f"n = {args.size}; k = 0 keeps all states")
    print(f"{'':6}" + "".join(f"{name:>10}" for name in (*columns, "difference")))
    for method in args.methods:
        for steps in args.steps:
            everything = None
            for checkpoints in (0, args.checkpoints):
                if not checkpoints and steps > args.all_up_to:
                    continue
                row = apart("benchmarks.memory", "--only", method, steps, args.size, checkpoints)
                cells = "".join(f"{row[name]:10.{digits}f}" for name, digits in columns.items())
                if checkpoints and everything is not None:
                    differences = zip(row["gradient"], everything, strict=True)
                    cells += f"{max(abs(a - b) / abs(b) for a, b in differences):10.1e}"
                everything = row["gradient"] if not checkpoints else everything
                print(f"{method:6}{cells}", flush=True)


if __name__ == "__main__":
    main()
