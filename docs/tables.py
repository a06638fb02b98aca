"""Writes what the registries and the command line know into the documentation, so that nobody does
it by hand.

    python docs/tables.py     # docs/methods.md, docs/cli.md, and the table in README.md

tests/test_docs.py holds that what is committed is what this writes.
"""

import argparse
import inspect
from pathlib import Path

from pynode import cli
from pynode.adjoints import registry as adjoints
from pynode.adjoints.julia import NAMES as JULIA_ADJOINTS
from pynode.backends import registry as backends
from pynode.backends.julia import algorithms
from pynode.cli import catalogue
from pynode.methods import registry as methods

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- begin: python docs/tables.py -->", "<!-- end: python docs/tables.py -->"

# A family of the catalogue: what its methods are for, and what is to be known of them.
FAMILIES = {
    "explicit Runge-Kutta": ("not stiff", "An evaluation of f for each stage, nothing else."),
    "Adams": ("not stiff, expensive f, tight tolerances", "Two evaluations a step at any order."),
    "stabilised Runge-Kutta": (
        "mildly stiff with real eigenvalues: diffusion",
        "No Jacobian: as many stages as stability asks for.",
    ),
    "symplectic": (
        "dq/dt = v(t, p), dp/dt = a(t, q) over long times",
        "Fixed steps of a state (q, p).",
    ),
    "backward differentiation": (
        "stiff, any size",
        (
            'One system of n equations a step, few factorisations. `method="auto"` takes QNDF where'
            " a problem is stiff from the start."
        ),
    ),
    "Rosenbrock": (
        "stiff, up to some 50 states",
        "A Jacobian and a factorisation each step, no Newton iteration.",
    ),
    "diagonally implicit Runge-Kutta": (
        "stiff, with events and jumps",
        (
            "One-step methods, which start anew at no cost. KenCarp4 and KenCarp47 treat one part"
            " of a `SplitField` explicitly."
        ),
    ),
    "fully implicit Runge-Kutta": (
        "stiff, tight tolerances, training",
        "Few, large steps, each with systems for all stages at once.",
    ),
    "automatic switching": (
        "stiff at times",
        (
            "Explicit where that is stable, else the stiff method. Any pair can be named, as"
            ' `method="AutoDP5(KenCarp4())"`.'
        ),
    ),
    "of SciML alone": (
        "what the others do not offer",
        'By `backend="julia"`; without Julia the nearest other one serves.',
    ),
}
KEPT = {"steps": "the steps", "dense": "polynomials of all steps", "outputs": "the outputs"}


def families() -> dict:
    """The methods of the catalogue by family, in the order of FAMILIES."""
    found = {family: [] for family in FAMILIES}
    for entry in catalogue.methods():
        found[entry.family].append(entry)
    return found


def table(head, rows) -> list:
    """Lines of a table in Markdown."""
    return [
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]


def methods_page() -> str:
    """docs/methods.md: every method, engine and adjoint."""
    lines = [
        "# Methods, engines and adjoints",
        "",
        (
            "Made by `python docs/tables.py` from the registries: what stands here is what `solve`"
            " takes. Names count in any case. `pynode methods` has the same on the command line,"
            " with filters."
        ),
        "",
    ]
    for family, found in families().items():
        use, note = FAMILIES[family]
        head = ["name", "order", "Jacobians", "mass matrix", "`batched`", "engines", "source"]
        lines += [
            f"## {title(family)}",
            "",
            f"For: {use}. {note}",
            "",
            *table(
                head,
                [
                    [
                        f"`{e.name}`",
                        e.order,
                        ", ".join(e.structures) or "none",
                        yes(e.mass),
                        yes(e.batched),
                        ", ".join(e.backends),
                        e.reference,
                    ]
                    for e in found
                ],
            ),
            "",
        ]
    other = ", ".join(f"`{old}` ({methods.get(new).name})" for old, new in methods.ALIASES.items())
    lines += [
        "## Other names",
        "",
        f"Aliases: {other}.",
        "",
        "## Engines",
        "",
        (
            '`backend=` takes one of these, or `"auto"`, the default: torch for every method that'
            " it has."
        ),
        "",
        *table(
            ["name", "what it is"],
            [
                [f"`{engine.name}`", summary(engine)]
                for engine in (backends.TorchBackend, backends.JuliaBackend)
            ],
        ),
        "",
        "## Adjoints",
        "",
        (
            "`adjoint=` takes a name, with or without its ending, or an object with options; "
            "[how to choose](adjoints.md)."
        ),
        "",
        *table(
            [
                "name",
                "`adjoint=`",
                "what it does",
                "keeps of the forward solve",
                "options",
                "Julia",
            ],
            adjoint_rows(),
        ),
    ]
    return "\n".join(lines) + "\n"


def adjoint_rows() -> list:
    kinds = {kind.name: kind for kind in adjoints.CLASSES}
    rows = []
    for entry in catalogue.adjoints():
        kind = kinds.get(entry.name)  # none of 'direct', which is a graph
        options = inspect.signature(kind).parameters if kind else ()
        rows.append(
            [
                f"`{entry.name}`",
                f'`"{entry.short}"`',
                entry.what,
                KEPT[kind.needs] if kind else "its graph",
                ", ".join(f"`{name}`" for name in options),
                yes(entry.name in JULIA_ADJOINTS),
            ]
        )
    return rows


def readme_table() -> str:
    """The table of README.md, without the markers."""
    groups = {("Explicit", "not stiff; diffusion (`RKC`), mechanics (`VelocityVerlet`)"): []}
    for family, found in families().items():
        key = (
            next(iter(groups))
            if found[0].kind == "explicit"
            else (title(family), FAMILIES[family][0])
        )
        if family != "of SciML alone":
            groups.setdefault(key, []).extend(f"`{entry.name}`" for entry in found)
    rows = [[name, ", ".join(members), use] for (name, use), members in groups.items()]
    engines, named = (
        ", ".join(f"`{name}`" for name in names)
        for names in (
            [name for name in backends.NAMES if name != "auto"],
            [entry.short for entry in catalogue.adjoints()],
        )
    )
    rows += [
        [
            "**Engines**",
            engines,
            f"SciML's solvers by the same names, and {len(algorithms.ONLY)} more",
        ],
        ["**Adjoints**", named, "[docs/adjoints.md](docs/adjoints.md)"],
    ]
    return "\n".join(table(["", "by SciML's names", "for"], rows))


def with_table(readme: str) -> str:
    """The text of README.md with the table as it ought to be between the markers."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{readme_table()}\n{END}{after}"


def cli_page() -> str:
    """docs/cli.md: every command and option of the parser, as tables that do not depend on the
    width of a terminal."""
    top = cli.parser()
    made = "Made by `python docs/tables.py` from what `pynode COMMAND --help` shows."
    lines = ["# Command line", "", f"{top.description} {made}", ""]
    for parser in commands(top):
        lines += [f"## {parser.prog}", "", *fenced(parser.description)]
        rows = [
            row(action)
            for action in parser._actions
            if not isinstance(action, argparse._HelpAction)
        ]
        lines += [
            *(table(["option", "meaning"], rows) if rows else ["It has no options."]),
            "",
            *fenced(parser.epilog),
        ]
    return "\n".join([*lines, *fenced(top.epilog)][:-1]) + "\n"


def commands(parser) -> list:
    """The parsers of all commands that run something."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [
        leaf for action in below for child in action.choices.values() for leaf in commands(child)
    ] or [parser]


def row(action) -> list:
    value = action.metavar or "{" + ",".join(map(str, action.choices or [action.dest])) + "}"
    name = ", ".join(action.option_strings)
    if action.nargs != 0:
        name = f"{name} {value}".strip()
    text = action.help % {**vars(action), "prog": ""} if action.help else ""
    return [f"`{name}`".replace("|", "\\|"), text.replace("|", "\\|")]


def fenced(text) -> list:
    return ["```text", *text.strip().splitlines(), "```", ""] if text else []


def title(family) -> str:
    return family[0].upper() + family[1:]


def summary(thing) -> str:
    """The first paragraph of a docstring, as one line."""
    return " ".join(inspect.getdoc(thing).split("\n\n")[0].split())


def yes(fact) -> str:
    return "yes" if fact else ""


def pages() -> dict:
    """Path -> text, of everything that is generated."""
    readme = ROOT / "README.md"
    return {
        ROOT / "docs" / "methods.md": methods_page(),
        ROOT / "docs" / "cli.md": cli_page(),
        readme: with_table(readme.read_text(encoding="utf-8")),
    }


if __name__ == "__main__":
    changed = {
        path: text
        for path, text in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")
    print(
        "Written: " + ", ".join(str(path.relative_to(ROOT)) for path in changed)
        if changed
        else "Nothing has changed."
    )
