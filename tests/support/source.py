"""The files of the package, and what they import."""

import ast

from tests.support import ROOT

PACKAGE = ROOT / "pynode"
FILES = sorted(PACKAGE.rglob("*.py"))


def executed(node):
    """The nodes below a node, without those under `if TYPE_CHECKING:`, which no program runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
            continue
        yield child
        yield from executed(child)


def imported(path):
    """Absolute dotted names of all that a file imports when it runs, also inside functions:
    'pynode.algebra.newton', 'torch'."""
    package = ["pynode", *path.relative_to(PACKAGE).parent.parts]
    names = set()
    for node in executed(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            # `from . import tables` names a module, `from .base import Method` an object of one.
            top, *inner = base.split(".")
            below = PACKAGE.joinpath(*inner)
            for alias in node.names:
                name = alias.name
                is_module = (below / f"{name}.py").exists() or (below / name).is_dir()
                names.add(f"{base}.{name}" if top == "pynode" and is_module else base)
    return names
