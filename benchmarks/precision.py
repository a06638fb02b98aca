"""Work against precision on the five stiff problems: pynode beside SciPy's BDF over two decades of
tolerance, one thread.

A ratio at one tolerance is a matter of luck as well: errors scatter by a factor of two or more from
one tolerance to the next. Here both run at rtol and atol times 10^(k/4), k = -4 to 4, in turn, and
a straight line is fitted to log(time) over log(error) of each. "ratio" compares the two lines at
the error that SciPy's line gives at the middle tolerance, "nfe_ratio" the same with evaluations of
f for time; "gain" is log10 of the error ratio at equal tolerances, pynode over SciPy, averaged.
"""

from benchmarks.pairs import pair

import numpy as np  # isort: skip

from benchmarks import report
from benchmarks.problems import PROBLEMS
from benchmarks.stiff import METHODS, NAMES


def measure(name: str, method: str, factors, args) -> list:
    """One row a tolerance."""
    rows = []
    base_case = PROBLEMS[name].case(args.rtol)
    for factor in factors:
        case = base_case.at(factor * args.rtol)
        mine = case.pynode(method)
        other = case.scipy("BDF")
        work = case.pynode_work(mine())
        base = case.scipy_work(other())
        timed = pair(mine, other, args.seconds, args.clock, rounds=(3, 20), warmup=0)
        rows.append(
            {
                "problem": name,
                "contestant": method,
                "rtol": case.rtol,
                "ms": 1e3 * timed.median_a,
                "base_ms": 1e3 * timed.median_b,
                "error": work["error"],
                "base_error": base["error"],
                "nfe": work["nfe"],
                "base_nfe": base["nfe"],
            }
        )
    return rows


def line(errors, values, at: float) -> float:
    """Value at an error of the straight line through log(value) over log(error)."""
    slope, offset = np.polyfit(np.log(errors), np.log(values), 1)
    return float(np.exp(offset + slope * np.log(at)))


def summary(rows: list) -> dict:
    """Both lines compared where SciPy's own error lies at the middle tolerance."""
    column = {
        key: np.array([row[key] for row in rows])
        for key in rows[0]
        if key not in ("problem", "contestant")
    }
    tolerance = np.log(column["rtol"])
    error = float(
        np.exp(np.polyval(np.polyfit(tolerance, np.log(column["base_error"]), 1), tolerance.mean()))
    )
    found = {"problem": rows[0]["problem"], "contestant": rows[0]["contestant"], "at_error": error}
    for key, label in (("ms", ""), ("nfe", "nfe_")):
        mine = line(column["error"], column[key], error)
        base = line(column["base_error"], column["base_" + key], error)
        found.update(
            {
                f"{label or 'ms_'}mine": mine,
                f"{label or 'ms_'}base": base,
                f"{label}ratio": mine / base,
            }
        )
    found["gain"] = float(np.log10(column["error"] / column["base_error"]).mean())
    return found


def main(argv=None):
    parser = report.parser(__doc__)
    parser.set_defaults(seconds=1.5)
    parser.add_argument("--rtol", type=float, default=1e-6, help="the middle tolerance (1e-6)")
    parser.add_argument("--problems", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    args = parser.parse_args(argv)
    if report.missing("scipy.integrate", "scipy"):
        parser.exit(1, "this benchmark needs SciPy: pip install scipy\n")
    report.heading()
    factors = [10 ** (k / 4) for k in range(4, -5, -1)]
    points = []
    lines = []
    for name in args.problems:
        for method in args.methods:
            report.progress(name, method)
            rows = measure(name, method, factors, args)
            points += rows
            lines.append(summary(rows))
    for method in args.methods:
        mine = [row for row in lines if row["contestant"] == method]
        ms = sum(row["ms_mine"] for row in mine)
        base = sum(row["ms_base"] for row in mine)
        nfe = sum(row["nfe_mine"] for row in mine)
        base_nfe = sum(row["nfe_base"] for row in mine)
        lines.append(
            {
                "problem": "sum",
                "contestant": method,
                "ms_mine": ms,
                "ms_base": base,
                "ratio": ms / base,
                "nfe_mine": nfe,
                "nfe_base": base_nfe,
                "nfe_ratio": nfe / base_nfe,
            }
        )
    columns = (
        "problem",
        "contestant",
        "rtol",
        "ms",
        "base_ms",
        "error",
        "base_error",
        "nfe",
        "base_nfe",
    )
    report.table("points", points, columns)
    report.table(
        "lines: time at the error of SciPy's BDF",
        lines,
        (
            "problem",
            "contestant",
            "at_error",
            "ms_mine",
            "ms_base",
            "ratio",
            "nfe_mine",
            "nfe_base",
            "nfe_ratio",
            "gain",
        ),
    )
    report.save("precision", {"points": points, "lines": lines}, args)


if __name__ == "__main__":
    main()
