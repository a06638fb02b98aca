"""Measurements of a GPU that no CPU can stand in for, each with one short table:

  synchronisations  how often the host waits for the GPU in a solve, as torch reports it
  operations        inverses and products of small matrices, and copies from ordinary and pinned
                    memory
  float32           QNDF and FBDF while the user lets torch round matrix products to TF32
  compiled          Rodas5P with compile=True: time to compile, agreement, a second thread
  profile           kernels in a solve, and the share of its time in which the GPU works

--device cpu runs the same in small where that has a meaning.
"""

import argparse
import statistics
import sys
import threading
import time
import warnings

import torch

from benchmarks import report
from benchmarks.gpu import Reactions, called
from pynode import solve
from pynode.methods.batched.one_step import RowInverse
from pynode.methods.registry import get

SPAN = 1e5


class Case:
    """Robertson's reactions in rows on a device."""

    def __init__(self, rows: int, device: str, dtype=torch.float64, rtol: float = 1e-6) -> None:
        batch = Reactions(rows, 1, SPAN, rtol)
        self.field = batch.field
        self.y0 = batch.y0.to(device, dtype)
        self.constants = batch.constants.to(device, dtype)
        self.t = batch.t.tolist()
        self.rtol = rtol

    def solve(self, method, **options):
        return solve(
            self.field,
            self.y0,
            self.t,
            args=(self.constants,),
            method=method,
            rtol=self.rtol,
            atol=1e-2 * self.rtol,
            batched=True,
            **options,
        )


def counts(device: str, *rows: int) -> tuple:
    """The numbers of rows to measure; in small without a GPU."""
    if device == "cuda":
        return rows
    return (100,)


def wait(device: str) -> None:
    """Wait until the device has done everything."""
    if device == "cuda":
        torch.cuda.synchronize()


def milliseconds(work, device: str, rounds: int = 5) -> float:
    """The median time of work(), in ms, after one call that warms up."""
    work()
    wait(device)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        wait(device)
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def synchronisations(device: str) -> list:
    """Warnings of torch's sync debug mode, for each accepted step of the row with the most."""
    if device != "cuda":
        return [{"note": "torch counts them on a GPU only: see tests/budgets on a pretended one"}]
    rows = []
    for method in ("tsit5", "rodas5p", "qndf", "fbdf", "kvaerno5"):
        case = Case(64, device)
        if method == "tsit5":
            case.t = [0.0, 1e-3]
        case.solve(method)
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            solution = case.solve(method)
        torch.cuda.set_sync_debug_mode("default")
        count = sum("synchroniz" in str(warning.message) for warning in caught)
        attempts = solution.stats.accepted + solution.stats.rejected
        rows.append({"method": method, "synchronisations": count, "row steps": attempts})
    return rows


def operations(device: str) -> list:
    """torch's batched inverse and product against those that pynode takes on this device; a copy of
    one number a row from ordinary memory against one from pinned memory."""
    rows = []
    for count in counts(device, 1_000, 100_000, 1_000_000):
        for n in (2, 3, 8, 20):
            if count * n * n > 1e8:
                continue
            a = torch.randn(count, n, n, dtype=torch.float64, device=device)
            a += n * torch.eye(n, dtype=torch.float64, device=device)
            b = torch.randn(count, n, dtype=torch.float64, device=device)
            rows.append(
                {
                    "rows": count,
                    "n": n,
                    "inv_ex ms": milliseconds(lambda a=a: torch.linalg.inv_ex(a), device),
                    "bmm ms": milliseconds(lambda a=a, b=b: torch.bmm(a, b.unsqueeze(2)), device),
                    "pynode's product ms": milliseconds(
                        lambda a=a, b=b: RowInverse.apply(a, b), device
                    ),
                }
            )
        numbers = torch.zeros(count, dtype=torch.float64)
        row = {"rows": count, "copy ms": milliseconds(lambda x=numbers: x.to(device), device)}
        if device == "cuda":
            pinned = numbers.pin_memory()
            row["pinned ms"] = milliseconds(
                lambda x=pinned: x.to(device, non_blocking=True), device
            )
        rows.append(row)
    return rows


def float32(device: str) -> list:
    """Errors of float32 solves against float64 with both settings of torch's matrix products."""
    rows = []
    exact = Case(64, device, rtol=1e-8).solve("rodas5p").y
    scale = exact.abs().amax((0, 1))
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        for method in ("qndf", "fbdf", "rodas5p"):
            solution = Case(64, device, torch.float32, 1e-3).solve(method, throw=False)
            error = ((solution.y - exact).abs() / scale).nan_to_num(torch.inf).max()
            rows.append(
                {
                    "products": precision,
                    "method": method,
                    "error": float(error),
                    "row steps": solution.stats.accepted,
                    "status": solution.status.name,
                }
            )
    torch.set_float32_matmul_precision("highest")
    return rows


def compiled(device: str) -> list:
    """compile=True beside the same without, for one row and for many, and on a second thread."""
    rows = []
    for count in (1, *counts(device, 1_024)):
        case = Case(count, device)
        # What was compiled is kept in a module.
        case.field = called(case.field)
        plain = case.solve("rodas5p")
        method = get("rodas5p", compile=True)
        began = time.perf_counter()
        fast = case.solve(method)
        first = time.perf_counter() - began
        row = {
            "rows": count,
            "first s": first,
            "ms": milliseconds(lambda case=case: case.solve("rodas5p"), device, 3),
            "compiled ms": milliseconds(
                lambda case=case, method=method: case.solve(method), device, 3
            ),
            "difference": float((fast.y - plain.y).abs().max()),
        }
        row["second thread"] = elsewhere(lambda case=case, method=method: case.solve(method))
        rows.append(row)
    return rows


def elsewhere(work) -> str:
    """How work() ends on another thread."""
    found = []

    def call():
        try:
            work()
            found.append("right")
        # Whatever it is, it belongs into the table.
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}"[:60])

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(60)
    if not found:
        return "did not end in 60 s"
    return found[0]


def profile(device: str) -> list:
    """Kernels, and the share of the time on the wall in which the device is busy."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    rows = []
    for count in counts(device, 1_000, 100_000):
        for method in ("rodas5p", "qndf"):
            case = Case(count, device)
            case.solve(method)
            with torch.profiler.profile(activities=activities) as seen:
                began = time.perf_counter()
                solution = case.solve(method)
                wait(device)
                wall = time.perf_counter() - began
            events = seen.key_averages()
            row = {
                "rows": count,
                "method": method,
                "ms": 1e3 * wall,
                "operations": sum(event.count for event in events if event.key[:6] == "aten::"),
                "row steps": solution.stats.accepted,
            }
            if device == "cuda":
                busy = sum(event.self_device_time_total for event in events)
                row["busy"] = 1e-6 * busy / wall
            rows.append(row)
    return rows


CHECKS = {
    check.__name__: check for check in (synchronisations, operations, float32, compiled, profile)
}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_checks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("check", choices=tuple(CHECKS))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "torch sees no GPU here: --device cpu shows the same in small\n")
    with torch.no_grad():
        rows = CHECKS[args.check](args.device)
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    report.table(args.check, rows, columns)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
