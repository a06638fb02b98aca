"""The five stiff problems: pynode beside SciPy's solvers on the same torch field, one thread.

  direct   every contestant at the same rtol and atol, in turn with SciPy's BDF; ratio below 1:
           faster than SciPy's BDF
  matched  the same at no larger error: pynode at the loosest tolerances (rtol and atol times
           10^(k/4)) at which, and at all tighter ones tried, its error is at most that of SciPy's
           BDF at --rtol
  sum      the times of the five problems added; the target of the better BDF is 0.7 of SciPy's

Errors are the largest over the times of the reference data, relative to the largest value of each
component. Both sides give outputs at these times alone. The reference data are in tests/reference.
"""

from benchmarks.pairs import pair

import torch  # isort: skip

from benchmarks import report
from benchmarks.problems import PROBLEMS, STIFF, names

NAMES = names(STIFF, network=False)
METHODS = ("fbdf", "qndf", "rodas5p")
FACTORS = [10 ** (k / 4) for k in range(8, -7, -1)]  # 100 down to 0.03, of rtol and atol


def contestants(case, args) -> dict:
    """Name -> (function, work), SciPy's BDF left out: it is the base of all of them."""
    mode = torch.inference_mode if args.inference else torch.no_grad
    found = {name: (case.pynode(name), case.pynode_work) for name in args.methods}
    for name in args.peers:
        if name == "cvode":
            found["CVODE"] = (case.cvode(), case.cvode_work)
        else:
            found[f"scipy {name}"] = (case.scipy(name, mode), case.scipy_work)
    return found


def matched(case, method: str, bound: float):
    """The loosest factor at which, and at all tighter ones, the error is within the bound; None
    where there is none."""
    best = None
    for factor in reversed(FACTORS):
        solution = case.pynode(method, factor)()
        if case.error(solution.y[1:].numpy()) > bound:
            break
        best = factor
    return best


def total(rows: list, key: str) -> list:
    """One row a contestant with the sums over the problems, only where all of them are there."""
    sums = []
    for name in dict.fromkeys(row[key] for row in rows):
        mine = [row for row in rows if row[key] == name and row.get("ms") is not None]
        count = len({row["problem"] for row in rows})
        if len(mine) == count:
            ms, base = sum(row["ms"] for row in mine), sum(row["base_ms"] for row in mine)
            sums.append(
                {"problem": "sum", key: name, "ms": ms, "base_ms": base, "ratio": ms / base}
            )
        else:
            sums.append({"problem": "sum", key: name, "note": f"{len(mine)} of {count} problems"})
    return sums


def main(argv=None):
    parser = report.parser(__doc__)
    parser.add_argument("--rtol", type=float, default=1e-6)
    parser.add_argument("--problems", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--methods", nargs="+", default=METHODS, help="pynode's")
    parser.add_argument(
        "--peers",
        nargs="*",
        default=("Radau", "LSODA", "cvode"),
        choices=("Radau", "LSODA", "cvode"),
    )
    parser.add_argument(
        "--exact-jacobian", action="store_true", help="give both sides the analytic Jacobian"
    )
    parser.add_argument(
        "--inference",
        action="store_true",
        help="run the peers in torch.inference_mode, not no_grad",
    )
    parser.add_argument(
        "--no-matched", action="store_true", help="leave out the comparison at equal error"
    )
    args = parser.parse_args(argv)
    if report.missing("scipy.integrate", "scipy"):
        parser.exit(1, "this benchmark needs SciPy: pip install scipy\n")
    if "cvode" in args.peers and report.missing("sksundae.cvode", "scikit-sundae"):
        args.peers = [name for name in args.peers if name != "cvode"]
    report.heading()
    direct, equal, base_rows = [], [], []
    for name in args.problems:
        case = PROBLEMS[name].case(args.rtol)
        case.exact = args.exact_jacobian
        base = case.scipy("BDF", torch.inference_mode if args.inference else torch.no_grad)
        work = case.scipy_work(base())
        base_rows.append({"problem": name, "contestant": "scipy BDF", **work})
        report.progress(name)
        for label, (run, describe) in contestants(case, args).items():
            found = describe(run())
            direct.append(
                {
                    "problem": name,
                    "contestant": label,
                    **pair(run, base, args.seconds, args.clock).row(),
                    **found,
                }
            )
        for method in args.methods if not args.no_matched else ():
            factor = matched(case, method, work["error"])
            if factor is None:
                equal.append(
                    {
                        "problem": name,
                        "contestant": method,
                        "note": "never as accurate",
                        "base_error": work["error"],
                    }
                )
                continue
            run = case.pynode(method, factor)
            timed = pair(run, base, args.seconds, args.clock).row()
            row = {"problem": name, "contestant": method, "rtol": factor * args.rtol, **timed}
            equal.append({**row, **case.pynode_work(run()), "base_error": work["error"]})
    direct += total(direct, "contestant")
    equal += total(equal, "contestant") if equal else []
    columns = ("problem", "contestant", "ms", "min_ms", "base_ms", "ratio", "low", "high", "rounds")
    counts = ("error", "nfe", "njac", "nlu", "steps", "rejected")
    report.table(
        f"SciPy's BDF, the base, at rtol {args.rtol:g}",
        base_rows,
        ("problem", "contestant", *counts[:4]),
    )
    report.table(f"direct: all at rtol {args.rtol:g}", direct, (*columns, *counts, "note"))
    if equal:
        report.table(
            "matched: at no larger error", equal, (*columns, "rtol", *counts, "base_error", "note")
        )
    report.save("stiff", {"base": base_rows, "direct": direct, "matched": equal}, args)


if __name__ == "__main__":
    main()
