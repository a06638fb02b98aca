"""Writes what the registries and the command line know into the documentation, so that nobody does it by hand.

    python docs/tables.py            # docs/methods.md, docs/cli.md, and the table between the markers of README.md

tests/test_docs.py holds that what is committed is what this writes.
"""

import argparse
import inspect
from pathlib import Path

import torch

from pynode import cli, solve
from pynode.adjoints import registry as adjoints
from pynode.adjoints.julia import NAMES as JULIA_ADJOINTS
from pynode.backends import registry as backends
from pynode.backends.julia import algorithms
from pynode.methods import registry as methods

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- begin: python docs/tables.py -->", "<!-- end: python docs/tables.py -->"

# The class that runs a method: what such methods are called, what they are for, and what is to be known of them.
FAMILIES = {
    "ExplicitRungeKutta": ("Explicit Runge-Kutta", "not stiff", "An evaluation of f for each stage, nothing else."),
    "Adams": ("Adams, variable order", "not stiff, expensive f, tight tolerances", "Two evaluations a step at any order."),
    "RungeKuttaChebyshev": (
        "Stabilised Runge-Kutta", "mildly stiff with real eigenvalues: diffusion",
        "No Jacobian: as many stages as stability asks for.",
    ),
    "Verlet": ("Symplectic", "dq/dt = v(t, p), dp/dt = a(t, q) over long times", "Fixed steps of a state (q, p)."),
    "BDF": (
        "BDF, variable order", "stiff, any size",
        "One system of n equations a step, few factorisations. `method=\"auto\"` takes QNDF where a problem is stiff from its start.",
    ),
    "RosenbrockMethod": ("Rosenbrock", "stiff, up to some 50 states", "A Jacobian and a factorisation each step, no Newton iteration."),
    "DIRK": (
        "Diagonally implicit Runge-Kutta", "stiff, with events and jumps",
        "One-step methods, which start anew at no cost. KenCarp4 and KenCarp47 treat one part of a `SplitField` explicitly.",
    ),
    "Radau": ("Radau IIA", "stiff, tight tolerances, training", "Few, large steps; one complex or real system a pair of stages."),
    "AutoSwitch": ("Automatic switching", "stiff at times", "Explicit where that is stable, else the stiff method of the pair."),
}
KEPT = {"steps": "the steps", "dense": "polynomials of all steps", "outputs": "the outputs"}


def families() -> dict:
    """The methods of the registry by the name of their class, in the order of FAMILIES."""
    found = {name: [] for name in FAMILIES}
    for name in methods.names():
        found[type(methods.get(name)).__name__].append(methods.get(name))
    return found


def by_row(method) -> bool:
    """Whether solve(..., batched=True) takes this method, found by asking it."""
    try:
        solve(lambda t, y: -y, torch.ones(2, 1, dtype=torch.float64), (0.0, 0.1), method=method, batched=True)
    except ValueError:
        return False
    return True


def order(method) -> str:
    return "1 to 5" if method.name in ("QNDF", "FBDF") else "1 to 12" if method.name == "AdamsPECE" else str(method.order)


def table(head, rows) -> list:
    """Lines of a table in Markdown."""
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(cells)} |" for cells in rows)]


def methods_page() -> str:
    """docs/methods.md: every method, engine and adjoint."""
    lines = [
        "# Methods, engines and adjoints", "",
        "Made by `python docs/tables.py` from the registries: what stands here is what `solve` takes. Names count in any case.", "",
    ]
    for name, found in families().items():
        title, use, note = FAMILIES[name]
        lines += [f"## {title}", "", f"For: {use}. {note}", ""]
        if name == "AutoSwitch":
            lines += ["Any pair can be named, as `method=\"AutoDP5(KenCarp4())\"`; these stand in the list:", ""]
            lines += [f"- `{method.name}`" for method in found] + [""]
            continue
        head = ["name", "order", "Jacobians", "mass matrix", "`batched`", "Julia", "source"]
        lines += table(head, [[
            f"`{m.name}`", order(m), ", ".join(m.structures) if m.implicit else "none", yes(m.takes_mass), yes(by_row(m)),
            yes(m.name in algorithms.SHARED), m.reference,
        ] for m in found]) + [""]
    other = ", ".join(f"`{old}` ({methods.get(new).name})" for old, new in methods.ALIASES.items())
    lines += [
        "## Other names", "", f"Aliases: {other}.", "",
        "Of SciML alone, by `backend=\"julia\"`: " + ", ".join(f"`{name}`" for name in algorithms.ONLY) + ".", "",
        "## Engines", "", "`backend=` takes one of these, or `\"auto\"`, the default: torch for every method that it has.", "",
        *table(["name", "what it is"], [
            [f"`{engine.name}`", first_line(engine)] for engine in (backends.TorchBackend, backends.JuliaBackend)
        ]), "",
        "## Adjoints", "", "`adjoint=` takes a name, with or without its ending, or an object with options; "
        "[how to choose](adjoints.md).", "",
        *table(["name", "what it does", "keeps of the forward solve", "options", "Julia"], adjoint_rows()),
    ]
    return "\n".join(lines) + "\n"


def adjoint_rows() -> list:
    rows = [[
        f"`{kind.name}`", first_line(kind), KEPT[kind.needs], ", ".join(f"`{name}`" for name in inspect.signature(kind).parameters),
        yes(kind.name in JULIA_ADJOINTS),
    ] for kind in adjoints.CLASSES]
    return [*rows, [f"`{adjoints.DIRECT}`", "Differentiates through the whole loop, by autograd's own graph.", "its graph", "", ""]]


def readme_table() -> str:
    """The table of README.md, without the markers."""
    groups = {}
    for name, found in families().items():
        title, use, _ = FAMILIES[name] if found[0].implicit else ("Explicit", "not stiff; diffusion (`RKC`), mechanics (`VelocityVerlet`)", "")
        groups.setdefault((title, use), []).extend(f"`{method.name}`" for method in found)
    rows = [[title, ", ".join(names), use] for (title, use), names in groups.items()]
    engines = ", ".join(f"`{name}`" for name in backends.NAMES if name != "auto")
    rows += [
        ["**Engines**", engines, f"SciML's solvers by the same names, and {len(algorithms.ONLY)} more"],
        ["**Adjoints**", ", ".join(f"`{name}`" for name in adjoints.names()), "[docs/adjoints.md](docs/adjoints.md)"],
    ]
    return "\n".join(table(["", "by SciML's names", "for"], rows))


def with_table(readme: str) -> str:
    """The text of README.md with the table as it ought to be between the markers."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{readme_table()}\n{END}{after}"


def cli_page() -> str:
    """docs/cli.md: every command and option of the parser, as tables that do not depend on the width of a terminal."""
    top = cli.parser()
    lines = ["# Command line", "", top.description + " Made by `python docs/tables.py` from what `pynode COMMAND --help` shows.", ""]
    for parser in commands(top):
        lines += [f"## {parser.prog}", "", *fenced(parser.description)]
        rows = [row(action) for action in parser._actions if not isinstance(action, argparse._HelpAction)]
        lines += [*(table(["option", "meaning"], rows) if rows else ["It has no options."]), "", *fenced(parser.epilog)]
    return "\n".join([*lines[:-1], *closing()]) + "\n"


def closing() -> list:
    """The second paragraph of the module's own docstring: exit codes."""
    return ["", "## Exit codes", "", inspect.getdoc(cli).split("\n\n")[1].removeprefix("Exit codes: ").replace("\n", " ")]


def commands(parser) -> list:
    """The parsers of all commands that run something."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [leaf for action in below for child in action.choices.values() for leaf in commands(child)] or [parser]


def row(action) -> list:
    name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    if action.option_strings and action.nargs != 0:
        name += " " + str(action.metavar or "{" + ",".join(map(str, action.choices or [action.dest.upper()])) + "}")
    text = action.help % {**vars(action), "prog": ""} if action.help else ""
    return [f"`{name}`".replace("|", "\\|"), text.replace("|", "\\|")]


def fenced(text) -> list:
    return ["```text", *text.strip().splitlines(), "```", ""] if text else []


def first_line(thing) -> str:
    return inspect.getdoc(thing).splitlines()[0]


def yes(fact) -> str:
    return "yes" if fact else ""


def pages() -> dict:
    """Path -> text, of everything that is generated."""
    readme = ROOT / "README.md"
    return {
        ROOT / "docs" / "methods.md": methods_page(), ROOT / "docs" / "cli.md": cli_page(),
        readme: with_table(readme.read_text(encoding="utf-8")),
    }


if __name__ == "__main__":
    changed = {path: text for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text}
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")
    print("Written: " + ", ".join(str(path.relative_to(ROOT)) for path in changed) if changed else "Nothing has changed.")
