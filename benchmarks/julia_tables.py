"""What benchmarks.julia prints of its rows."""

from benchmarks.suite import geometric_mean

# (a, b): the times of a, divided by the times of b.
RATIOS = (
    ("julia native", "julia python"),
    ("julia native", "torch"),
    ("julia native", "native"),
    ("julia native", "julia f"),
)
# The rows of the summary: contestant -> (its name, when to take it).
WAYS = {
    "torch": ("torch engine", "f cannot be translated; large networks; a GPU"),
    "native": ("native engine", "the default choice for small systems; exact discrete gradients"),
    "julia python": (
        "Julia, Python functions",
        "SciML's methods on an f that cannot be translated",
    ),
    "julia native": ("Julia, native functions", "SciML's methods and adjoints on a torch field"),
    "julia f": ("Julia, f written in Julia", "you work in Julia"),
    "cvode": ("CVODE, torch field", "you have scikit-sundae and no gradient to compute"),
    "cvode native": ("CVODE by Julia, native functions", "as a reference"),
}
METHOD = "Rodas5P"  # of the columns with milliseconds
COLUMNS = (
    "",
    "Robertson, ms",
    "pollution, ms",
    "six problems, three methods",
    "gradient, network, ms",
    "gradient, pollution, ms",
    "take it if",
)


def wide(rows) -> list:
    """One row for each problem and method, with the milliseconds of every contestant. CVODE has the
    same time in all rows of a problem."""
    found: dict = {}
    cvode: dict = {}
    for row in rows:
        name = row["problem"]
        if row["contestant"].startswith("cvode"):
            cvode.setdefault(name, {})[row["contestant"]] = row["ms"]
        else:
            key = name, row["method"]
            mine = found.setdefault(key, {"problem": name, "method": row["method"]})
            mine[row["contestant"]] = row["ms"]
    return [{**row, **cvode.get(row["problem"], {})} for row in found.values()]


def means(rows) -> list:
    """Geometric means of RATIOS over all methods, with the least and the largest one."""
    found = []
    for a, b in RATIOS:
        ratios = [row[a] / row[b] for row in wide(rows) if a in row and b in row]
        if ratios:
            found.append(
                {
                    "ratio": f"{a} / {b}",
                    "geometric mean": geometric_mean(ratios),
                    "least": min(ratios),
                    "most": max(ratios),
                    "of": len(ratios),
                }
            )
    return found


def summary(rows, gradients) -> list:
    """Lines of Markdown, one row for each way. The mean is over all problems and methods: of the
    time, divided by the time of Julia with native functions."""
    table = wide(rows)
    single = {row["problem"]: row for row in table if row["method"] == METHOD}
    reverse = {
        (row["field"], row["contestant"]): row["ms"] for row in gradients if row["method"] == METHOD
    }
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for way, (name, when) in WAYS.items():
        ratios = [
            row[way] / row["julia native"] for row in table if way in row and "julia native" in row
        ]
        if not ratios:
            continue
        numbers = (
            single.get("robertson", {}).get(way),
            single.get("pollution", {}).get(way),
            geometric_mean(ratios),
            reverse.get(("robertson network", way)),
            reverse.get(("pollution", way)),
        )
        lines.append("| " + " | ".join([name, *map(_shown, numbers), when]) + " |")
    return lines


def _shown(number):
    """Two digits, or all before the point."""
    if number is None:
        return "–"
    return f"{number:.2g}" if number < 100 else f"{number:.0f}"
