"""The suite: pynode beside every peer that is installed, one ratio a problem and peer, at equal
error.

SciPy, torchdiffeq, torchode, diffrax, scikit-sundae, casadi and pydiffsol on stiff problems
(pynode: QNDF), others (Tsit5) and networks, forward and, where the peer has gradients, the gradient
of a training step. Torch packages, SciPy and scikit-sundae call the same torch module; diffrax,
casadi and pydiffsol take the same field in a language of their own, compiled: there the ratio holds
what the language gains as well as the solver. Compilation is in a table of its own and in no time.

A ratio is pynode's time over the peer's where both have the same error, by lines through time over
error over the ladder of tolerances; below 1 pynode is faster. In brackets: the quartiles over the
rounds, in which all contestants run in turn (none after a single round, for who takes longer than
--seconds). Who takes longer than --limit seconds for a solve is stopped and told. Written to --out:
suite.md, .csv, .json and .png.
"""

from benchmarks import report, suite
from benchmarks.peers import PEERS
from pynode.backends.julia.setup.locate import locate
from pynode.core.drawing.palette import look


def shown(row: dict) -> str:
    """The cell of a ratio; where pynode is slower it says so."""
    if "note" in row:
        return "–"
    spread = f" ({short(row['low'])}–{short(row['high'])})" if row["rounds"] > 1 else ""
    text = short(row["ratio"]) + spread
    return f"**{text} slower**" if row["ratio"] > 1 else text


def short(ratio: float) -> str:
    """Two digits; three near 1, and all before the point from 10 on."""
    if 0.95 < ratio < 2:
        return f"{ratio:.2f}"
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"


def table(found: list) -> list:
    """Lines of Markdown of the ratios of one kind: a row a peer, a column a problem, and the
    geometric mean."""
    problems = list(dict.fromkeys(row["problem"] for row in found))
    lines = [
        f"| pynode's {found[0]['pynode']} over | field | "
        + " | ".join(problems)
        + " | geometric mean |"
    ]
    lines.append("|" + "---|" * (len(problems) + 3))
    for peer in dict.fromkeys(row["peer"] for row in found):
        mine = {row["problem"]: row for row in found if row["peer"] == peer}
        known = [row["ratio"] for row in mine.values() if "ratio" in row]
        mean = suite.geometric_mean(known) if known else None
        total = "–" if mean is None else f"**{short(mean)} slower**" if mean > 1 else short(mean)
        cells = [shown(mine[name]) for name in problems]
        lines.append(
            "| " + " | ".join([peer, next(iter(mine.values()))["field"], *cells, total]) + " |"
        )
    return lines


def document(found: list, rows: list) -> str:
    """suite.md: the tables of ratios, what compiling took, who was stopped, versions and
    machine."""
    about = report.environment()
    versions = ", ".join(
        f"{name} {version}"
        for name, version in about["versions"].items()
        if version != "not installed"
    )
    lines = [
        f"{versions}.",
        "",
        ", ".join(f"{name} {value}" for name, value in about["machine"].items()) + ".",
    ]
    for kind, title in suite.TITLES.items():
        mine = [row for row in found if row["kind"] == kind]
        lines += ["", f"{title}:", "", *table(mine)] if mine else []
    seconds = {}
    for row in rows:
        if row.get("compile_s"):
            seconds.setdefault(row["contestant"], {}).setdefault(row["problem"], row["compile_s"])
    if seconds:
        lines += ["", "Compilation, seconds on the wall for one problem, in no ratio:", ""]
        lines += ["| peer | least | most |", "|---|---|---|"]
        lines += [
            f"| {name} | {min(x.values()):.2g} | {max(x.values()):.2g} |"
            for name, x in seconds.items()
        ]
    told = [f"- {row['peer']} on {row['problem']}: {row['note']}" for row in found if "note" in row]
    lines += ["", "Without a ratio:", "", *told] if told else []
    return "\n".join(lines) + "\n"


def plot(found: list, path):
    """Bars from 1 to the ratio on a logarithmic axis, with the quartiles; a panel a kind, a colour
    a problem."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = [
        kind
        for kind in suite.TITLES
        if any(row["kind"] == kind and "ratio" in row for row in found)
    ]
    peers = {
        kind: list(
            dict.fromkeys(row["peer"] for row in found if row["kind"] == kind and "ratio" in row)
        )
        for kind in kinds
    }
    heights = [0.5 + len(peers[kind]) for kind in kinds]
    figure = Figure(figsize=(9, 1.4 + 0.42 * sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(kinds), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights}
    ).ravel()
    # Bars of one colour differ in their hatches, which also show in grey.
    hatches = ("", "///", "...", "\\\\\\", "xxx")
    styles = {
        name: {"color": look(i).colour, "hatch": hatches[i % len(hatches)], "edgecolor": "white"}
        for i, name in enumerate(suite.KINDS)
    }
    for axis, kind in zip(axes, kinds):
        mine = [row for row in found if row["kind"] == kind and "ratio" in row]
        problems = list(dict.fromkeys(row["problem"] for row in mine))
        high = 0.8 / len(problems)
        for i, name in enumerate(problems):
            bars = [row for row in mine if row["problem"] == name]
            at = [
                peers[kind].index(row["peer"]) + (i - (len(problems) - 1) / 2) * high
                for row in bars
            ]
            ratio = [row["ratio"] for row in bars]
            below = [max(row["ratio"] - row["low"], 0) for row in bars]
            above = [max(row["high"] - row["ratio"], 0) for row in bars]
            axis.barh(
                at,
                [r - 1 for r in ratio],
                height=high,
                left=1,
                xerr=[below, above],
                label=name,
                **styles[name],
                error_kw={"elinewidth": 0.8},
            )
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_yticks(range(len(peers[kind])), peers[kind], fontsize=8)
        axis.invert_yaxis()
        axis.set_title(suite.TITLES[kind], fontsize=9, loc="left")
        axis.grid(axis="x", alpha=0.3)
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axes[-1].set_xlabel(
        "time of pynode / time of the peer at equal error  (left of 1: pynode is faster)",
        fontsize=9,
    )
    figure.savefig(path, dpi=100)
    print(f"written: {path.name}")


def main(argv=None):
    parser = report.parser(__doc__)
    parser.prog = "python -m benchmarks"
    parser.set_defaults(seconds=1.0)
    parser.add_argument("--peers", nargs="+", default=tuple(PEERS), choices=tuple(PEERS))
    parser.add_argument(
        "--problems", nargs="+", choices=tuple(suite.KINDS), help="all of them unless named"
    )
    parser.add_argument(
        "--method",
        help="pynode's, on every problem, instead of QNDF where it is stiff and Tsit5 elsewhere",
    )
    engine = parser.add_mutually_exclusive_group()
    engine.set_defaults(engine="torch")
    engine.add_argument(
        "--compile",
        action="store_const",
        const="compiled",
        dest="engine",
        help="pynode with compile=True, stiff problems by Rodas5P",
    )
    engine.add_argument(
        "--native",
        action="store_const",
        const="native",
        dest="engine",
        help="pynode with backend='native', stiff problems by Rodas5P",
    )
    engine.add_argument(
        "--julia",
        action="store_const",
        const="julia",
        dest="engine",
        help="pynode with backend='julia', native functions where the field translates, stiff"
        " problems by SciML's Rodas5P",
    )
    parser.add_argument(
        "--ladder", nargs="+", type=float, help="values of rtol (1e-4 1e-5 1e-6 1e-7 1e-8)"
    )
    parser.add_argument(
        "--repeats", type=int, dest="rounds", help="most rounds at one tolerance (5)"
    )
    parser.add_argument("--limit", type=float, help="seconds after which a solve is stopped (4)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a minute: two tolerances, two rounds, four problems unless named",
    )
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.limit = args.limit or (1.0 if args.quick else 4.0)
    quick = ("robertson", "lotka_volterra", "mlp", "mlp gradient")
    args.problems = args.problems or (quick if args.quick else tuple(suite.KINDS))
    args.ladder = sorted(
        args.ladder or ((1e-4, 1e-6) if args.quick else (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)),
        reverse=True,
    )
    if report.missing(PEERS["scipy"].module, "scipy"):
        parser.exit(1, "this benchmark needs SciPy: pip install scipy\n")
    packages = [name for name in args.peers if not report.missing(PEERS[name].module, name)]
    if args.engine == "julia" and not locate().ready:
        parser.exit(1, f"no Julia: {locate().problem}\n")
    report.heading()
    rows, found = [], []
    for name in args.problems:
        measured = suite.measure(name, args, packages)
        rows += measured
        found += suite.ratios(measured)
    text = document(found, rows)
    print("\n" + text)
    points = [{key: value for key, value in row.items() if key != "times"} for row in rows]
    report.save("suite", {"ratios": found, "points": points}, args)
    (args.out / "suite.md").write_text(text)
    if any("ratio" in row for row in found) and not report.missing("matplotlib"):
        plot(found, args.out / "suite.png")


if __name__ == "__main__":
    main()
