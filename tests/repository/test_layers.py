"""The order of the layers, held by reading the imports; and what `import pynode` must not load."""

import pkgutil
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

import pynode
from tests.support.source import FILES, PACKAGE, imported

# A room, a folder or file of pynode/, imports only from the lines above its own. Modules of one
# room may use one another, without a circle.
LAYERS = [
    ("core",),
    ("algebra", "data", "problems", "sde", "transforms", "translate"),
    ("methods",),
    ("backends", "failure"),
    ("adjoints",),
    ("solve_batched", "solve_short", "solve_switched"),
    ("solve_short_rows",),
    ("integrate",),
    ("nn", "compat", "diagnosis", "check", "doctor", "equilibrium"),
    ("compare", "models"),
    ("train",),
    ("fit",),
    ("cli",),
    ("__main__",),
]
RANK = {room: i for i, layer in enumerate(LAYERS) for room in layer}


def module_of(path):
    """Dotted name below pynode: 'algebra.newton', and 'algebra' for its __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def inside(path):
    """Those of pynode's own modules that a file imports, as named by module_of; the package itself
    is '__init__'."""
    names = imported(path)
    found = (name.split(".", 1) for name in names if name.split(".")[0] == "pynode")
    return {parts[1] if len(parts) > 1 else "__init__" for parts in found}


def room(module):
    return module.split(".")[0]


def test_imports_are_read():
    """The reader sees every form of import that the code uses."""
    by_name = {module_of(path): inside(path) for path in FILES}
    assert {"core.layout"} <= by_name["core.problem"]
    assert {"algebra.newton", "core.status", "methods.base"} <= by_name["methods.bdf.step"]
    assert "methods.tables" in by_name["methods.registry"]
    assert {"adjoints.discrete.bdf", "adjoints.discrete.replay"} <= by_name[
        "adjoints.discrete.adjoint"
    ]
    assert "problems.base" in by_name["problems.robertson"]


def test_every_room_has_a_place():
    assert set(RANK) == {room(module_of(path)) for path in FILES} - {"__init__"}


def test_imports_point_one_way():
    wrong = []
    for path in FILES:
        module = module_of(path)
        mine = room(module)
        # `from pynode import ...` is for those who use the package as its users do.
        rank = RANK["nn"] if module == "__init__" else RANK[mine]
        for name in inside(path):
            other = room(name)
            if other == "__init__":
                allowed = rank > RANK["integrate"]
            else:
                allowed = other == mine or RANK[other] < rank
            if not allowed:
                wrong.append(f"{module} imports {name}")
    assert not wrong, f"{wrong}: only lines above may be imported, in {LAYERS}"


def test_no_circles_within_a_layer():
    """Annotations may name a module that uses their own: a report, and what it reports on."""
    graph = {module_of(path): inside(path) - {module_of(path), "__init__"} for path in FILES}
    packages = {module_of(path) for path in FILES if path.name == "__init__.py"}
    # A package's __init__ re-exports for its users; its own modules name one another directly.
    own = {
        name: {x for x in found if x not in packages or room(x) != room(name)}
        for name, found in graph.items()
    }
    list(TopologicalSorter(own).static_order())


def test_julia_is_imported_in_one_place():
    """And there inside functions alone (test_importing_pynode_is_light)."""
    julia = {"juliacall", "juliapkg", "julia", "diffeqpy"}
    using = {
        module_of(path) for path in FILES if {name.split(".")[0] for name in imported(path)} & julia
    }
    assert all(module.startswith("backends.julia.") for module in using), using


def test_importing_pynode_is_light():
    """A fresh interpreter that imports pynode has not loaded torch, which takes a second. After the
    first use of solve it has loaded neither the optional packages nor the parts that use them."""
    heavy = ["scipy", "matplotlib", "rich", "juliacall", "juliapkg"]
    heavy += ["numba", "llvmlite", "pynode.translate", "pynode.backends.native"]
    heavy += ["pynode.backends.julia.api", "pynode.cli", "pynode.train", "pynode.compat"]
    code = (
        "import sys, pynode; assert 'torch' not in sys.modules; pynode.solve, pynode.QNDF;"
        f" print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_is_loaded_late_is_there():
    """In a fresh interpreter: names are listed before they are loaded, and submodules need no
    import of their own."""
    code = (
        "import sys, pynode\n"
        "late = {name for names in pynode._PLACES.values() for name in names}\n"
        "assert set(pynode.__all__) | late <= set(dir(pynode))\n"
        "assert 'torchdiffeq' in dir(pynode.compat) and 'pynode.sde' not in sys.modules\n"
        "pynode.compare.compare, pynode.sde.solve_sde, pynode.diagnosis.Diagnosis\n"
        "pynode.compat.torchdiffeq.odeint\n"
        "print([name for name in dir(pynode) if not hasattr(pynode, name)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("package", [pynode, pynode.train, pynode.compare, pynode.problems])
def test_no_module_has_the_name_of_what_is_loaded_late(package):
    """Python puts a module that was imported into its package, where it would hide the function."""
    modules = {info.name for info in pkgutil.iter_modules(package.__path__)}
    own = {value for value in package.__all__ if value in modules}
    assert not own


def test_names_that_are_not_there_are_errors():
    for module, name in ((pynode, "sovle"), (pynode.compat, "torchdifeq")):
        with pytest.raises(
            AttributeError, match=f"module '{module.__name__}' has no attribute '{name}'"
        ):
            getattr(module, name)
