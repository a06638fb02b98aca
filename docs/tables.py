"""Write tables of the documentation from the registries and the command line.

    python docs/tables.py     # docs/methods.md, docs/cli.md, and the table in README.md

tests/repository/test_docs.py checks that the committed files equal the output of this script.
"""

import inspect
import sys
import textwrap
from itertools import zip_longest
from pathlib import Path
from unittest import mock

from pynode.adjoints import registry as adjoints
from pynode.adjoints.julia import NAMES as JULIA_ADJOINTS
from pynode.backends import registry as backends
from pynode.backends.julia import algorithms
from pynode.backends.native.engine import NativeBackend
from pynode.cli import catalogue
from pynode.cli.app import CODES, MODULES, application
from pynode.methods import registry as methods

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- begin: python docs/tables.py -->", "<!-- end: python docs/tables.py -->"

# Family of the catalogue: (use of its methods, note about them).
FAMILIES = {
    "explicit Runge-Kutta": (
        "not stiff",
        "Each stage costs one evaluation of f, and nothing else.",
    ),
    "Adams": (
        "not stiff, expensive f, tight tolerances",
        "Each step costs two evaluations, at any order.",
    ),
    "stabilised Runge-Kutta": (
        "mildly stiff with real eigenvalues: diffusion",
        "The method needs no Jacobian. It takes as many stages as stability needs.",
    ),
    "symplectic": (
        "dq/dt = v(t, p), dp/dt = a(t, q) over long times",
        "The state is (q, p), and the step size is fixed.",
    ),
    "backward differentiation": (
        "stiff, any size",
        (
            "Each step solves one system of n equations, with few factorisations."
            ' `method="auto"` takes QNDF if a problem is stiff from the start.'
        ),
    ),
    "Rosenbrock": (
        "stiff, up to about 50 states",
        "Each step needs one Jacobian and one factorisation, and no Newton iteration.",
    ),
    "diagonally implicit Runge-Kutta": (
        "stiff, with events and jumps",
        (
            "These are one-step methods: a restart costs them nothing. KenCarp4 and KenCarp47 treat"
            " one part of a `SplitField` explicitly."
        ),
    ),
    "fully implicit Runge-Kutta": (
        "stiff, tight tolerances, training",
        "These methods take few, large steps. Each step solves systems for all stages at once.",
    ),
    "automatic switching": (
        "stiff at times",
        (
            "These pairs take the explicit method where it is stable, and otherwise the stiff"
            ' method. You can name any pair, for example `method="AutoDP5(KenCarp4())"`.'
        ),
    ),
    "SciML only": (
        "formulas that the torch engine does not have",
        (
            'They run with `backend="julia"` or `"auto"`. Without Julia, `"auto"` takes the nearest'
            " method of the torch engine."
        ),
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


def paragraph(text) -> list:
    """Lines of at most 100 columns."""
    return textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)


def methods_page() -> str:
    """docs/methods.md: every method, engine and adjoint."""
    lines = [
        "# Methods, engines and adjoints",
        "",
        *paragraph(
            "`python docs/tables.py` makes this page from the registries, so it lists everything"
            " that `solve` takes. Upper and lower case make no difference. `pynode methods`"
            " prints the same list on the command line, with filters."
        ),
        "",
    ]
    for family, found in families().items():
        use, note = FAMILIES[family]
        head = ["name", "order", "Jacobians", "mass matrix", "`batched`", "engines", "source"]
        lines += [
            f"## {title(family)}",
            "",
            *paragraph(f"For: {use}. {note}"),
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
        *paragraph(f"Aliases: {other}."),
        "",
        "## Engines",
        "",
        *paragraph(
            '`backend=` takes one of these names or `"auto"`, the default. `"auto"` takes torch for'
            " every method that torch has."
        ),
        "",
        *table(
            ["name", "meaning"],
            [
                [f"`{engine.name}`", summary(engine)]
                for engine in (backends.TorchBackend, NativeBackend, backends.JuliaBackend)
            ],
        ),
        "",
        "## Adjoints",
        "",
        *paragraph(
            "`adjoint=` takes a name, with or without its ending, or an object with options. See"
            " [how to choose](adjoints.md)."
        ),
        "",
        *table(
            [
                "name",
                "`adjoint=`",
                "what it does",
                "what it keeps of the forward solve",
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
        if family != "SciML only":
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
            "torch; the same in compiled code; SciML's solvers by the same names, and"
            f" {len(algorithms.ONLY)} more",
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
    """docs/cli.md: every command and option."""
    made = "`python docs/tables.py` makes this page from the records of the options."
    # cyclopts takes the words before the options from the program that runs, such as pytest.
    with mock.patch.object(sys, "argv", ["pynode"]):
        text = application().generate_docs(output_format="markdown")
    text = text.replace("```console", "```text")
    # The page has its own title, and the site its own table of contents.
    before, _, rest = text.partition("## Table of Contents")
    about = before.removeprefix("# pynode").strip()
    first, *sections = rest[rest.index("**Commands**") :].split("\n## ")
    lines = ["# Command line", "", about, "", made, "", first.strip(), "", CODES.strip()]
    epilogues = [module.EPILOGUE for module in MODULES]
    for section, epilogue in zip_longest(sections, epilogues, fillvalue=""):
        lines += ["", f"## {section.strip()}"]
        if epilogue:
            lines += ["", epilogue.strip()]
    return "\n".join(lines) + "\n"


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
