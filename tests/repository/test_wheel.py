"""What an installation brings: the wheel and the source archive are complete, and the wheel serves
in an empty environment.

torch and NumPy are not installed anew: the environment finds those of the running one, and nothing
that is installed there in editable mode.
"""

import os
import re
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import torch

from pynode.backends.julia.setup import process, versions
from tests.support import ROOT
from tests.support.source import FILES, imported

pytest.importorskip(
    "hatchling",
    reason="hatchling, which builds the wheel, is not installed: pip install hatchling editables",
)
PACKAGED = (
    "Project.toml",
    "check.jl",
    "copied_project.jl",
    "sysimage.jl",
    "sysimage_workload.jl",
)
BUILD = (
    "import os, sys; from hatchling import build; os.chdir(sys.argv[1]); print(getattr(build,"
    " sys.argv[2])(sys.argv[3]))"
)
FIND = """
import site, sys
site.addsitedir(sys.argv[1])
sys.path.append(sys.argv[2])  # of torch; by -S without what is installed there in editable mode
import pynode
from pynode.backends.julia.setup.versions import package
print(pynode.__file__, package())
"""


LIBRARIES = str(Path(torch.__file__).parents[1])


def archive(kind, folder, root=ROOT):
    """Path of what a hook that pip calls has built of a source tree."""
    done = process.run([sys.executable, "-c", BUILD, str(root), kind, str(folder)], 120)
    assert done.ok, done.err
    return folder / done.out.splitlines()[-1]


def built(kind, folder):
    """The unpacked wheel."""
    with zipfile.ZipFile(archive(kind, folder)) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def found(site):
    """Where a fresh process, outside of the checkout, finds pynode and the Julia package."""
    done = process.run([sys.executable, "-I", "-S", "-c", FIND, str(site), LIBRARIES], 120)
    assert done.ok, done.err
    return [Path(path) for path in done.out.split()]


def test_the_wheel_holds_the_julia_package(tmp_path):
    site = built("build_wheel", tmp_path)
    held = {
        str(path.relative_to(site / "pynode" / "_julia"))
        for path in (site / "pynode" / "_julia").rglob("*.*")
    }
    own = {path for part in ("src", "ext") for path in (ROOT / "julia" / part).iterdir()}
    own |= {ROOT / "julia" / name for name in PACKAGED}
    assert held == {os.path.join("PyNODE", str(path.relative_to(ROOT / "julia"))) for path in own}
    assert not list(site.rglob("juliapkg.json")), (
        "juliapkg would find it, and every user of juliacall would get the solvers"
    )
    assert found(site) == [site / "pynode" / "__init__.py", site / "pynode" / "_julia" / "PyNODE"]


def test_the_wheel_is_complete(tmp_path):
    site = built("build_wheel", tmp_path)
    made = {
        path.relative_to(ROOT)
        for path in (ROOT / "pynode").rglob("*")
        if path.suffix not in (".pyc", "")
    }
    assert Path("pynode/py.typed") in made and Path("pynode/compare/page.html") in made
    assert all((site / path).read_bytes() == (ROOT / path).read_bytes() for path in made)
    info = next(site.glob("*.dist-info"))
    assert (info / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    metadata = (info / "METADATA").read_text()
    assert (
        "License-Expression: MIT" in metadata
        and "Requires-Dist: scipy>=1.11; extra == 'scipy'" in metadata
    )
    required = {
        re.match(r"[\w-]+", line)[0]
        for line in re.findall(r"^Requires-Dist: (.*)", metadata, re.M)
        if ";" not in line
    }
    assert required == {"torch", "numpy", "cyclopts", "rich", "tomli-w"}
    extras = set(re.findall(r"^Provides-Extra: (\w+)", metadata, re.M))
    assert extras == {
        "scipy",
        "plot",
        "julia",
        "diffeqpy",
        "native",
        "cuda",
        "torchdiffeq",
        "examples",
        "sbml",
        "antimony",
        "petab",
        "cantera",
        "fit",
        "samples",
        "data",
        "sweep",
        "track",
        "docs",
        "dev",
    }


def test_every_optional_package_has_an_extra():
    """What a module of pynode imports, beside the standard library, torch and NumPy."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("dev = [")[0]
    names = {name.split(".")[0] for path in FILES for name in imported(path)}
    # juliapkg comes with juliacall. petab_sciml is on no package index.
    without = {"torch", "numpy", "pynode", "juliapkg", "petab_sciml"}
    optional = names - sys.stdlib_module_names - without
    distributions = {"libsbml": "python-libsbml", "tomli_w": "tomli-w"}
    optional = {distributions.get(name, name) for name in optional}
    assert {"scipy", "matplotlib", "juliacall"} <= optional
    assert not {name for name in optional if f'"{name}>=' not in project}


def test_the_source_archive_is_complete(tmp_path):
    """The wheel that is made of it is that of the checkout; so are the tests and what they read."""
    with tarfile.open(archive("build_sdist", tmp_path)) as packed:
        packed.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    (tmp_path / "again").mkdir(), (tmp_path / "own").mkdir()
    wheels = [
        archive("build_wheel", tmp_path / "again", source),
        archive("build_wheel", tmp_path / "own"),
    ]
    first, second = (
        {x.filename: x.CRC for x in zipfile.ZipFile(wheel).infolist()} for wheel in wheels
    )
    assert first == second
    for name in (
        "LICENSE",
        "Makefile",
        "constraints.txt",
        "tests/support/cases.py",
        "docs/index.md",
    ):
        assert (source / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_first_example_runs_where_the_wheel_is_installed(tmp_path):
    """pip installs it into an empty environment, with its command."""
    pytest.importorskip("pip", reason="pip, which installs the wheel, is not there")
    wheel = archive("build_wheel", tmp_path)
    venv.create(tmp_path / "env", with_pip=False)
    python = next(path for path in (tmp_path / "env").glob("*/python*") if path.stem == "python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    done = process.run(
        [*pip, "install", "--no-deps", "--no-index", "--no-compile", str(wheel)], 300
    )
    assert done.ok, done.err
    (site,) = (path.parent for path in (tmp_path / "env").rglob("pynode") if path.is_dir())
    (site / "torch.pth").write_text(LIBRARIES + "\n")
    example = re.search(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )[1]
    (tmp_path / "example.py").write_text(example + "print(pynode.__file__)\n", encoding="utf-8")
    done = process.run([str(python), "-I", str(tmp_path / "example.py")], 300)
    assert done.ok, done.err
    counts, where = done.out.splitlines()
    assert counts.startswith("Stats(nfe=") and Path(where) == site / "pynode" / "__init__.py"
    done = process.run([str(python.with_name("pynode")), "methods"], 300)
    assert done.ok and "QNDF" in done.out, done.err


def test_an_editable_installation_uses_the_checkout(tmp_path):
    pytest.importorskip(
        "editables",
        reason="editables, which editable installations need, is not there: pip install editables",
    )
    site = built("build_editable", tmp_path)
    assert found(site) == [ROOT / "pynode" / "__init__.py", ROOT / "julia"]


def test_versions_are_written_once():
    """The environment of the repository asks for nothing that the package does not."""
    text = (ROOT / "Project.toml").read_text()
    name, uuid, limits = versions.optional("radau")
    assert (
        f'{name} = "{uuid}"' in text
        and f'{name} = "{limits}"' in text
        and f'julia = "{versions.julia()}"' in text
    )
    assert 'PyNODE = "212f099a-337b-5f73-a94d-1feccfba2269"' in text
