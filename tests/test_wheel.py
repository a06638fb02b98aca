"""What an installation brings: the Julia package inside the wheel, and found there; in an editable one, the checkout's own."""

import os
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from pynode.backends.julia import bounds, process

ROOT = Path(__file__).parent.parent
pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed: pip install hatchling editables")
BUILD = "import os, sys; from hatchling import build; os.chdir(sys.argv[1]); print(getattr(build, sys.argv[2])(sys.argv[3]))"
FIND = """
import site, sys
site.addsitedir(sys.argv[1])
sys.path.append(sys.argv[2])  # of torch; by -S without what is installed there in editable mode
import pynode
from pynode.backends.julia.bounds import package
print(pynode.__file__, package())
"""


def built(kind, folder):
    """Build by the hooks that pip calls; the unpacked wheel."""
    done = process.run([sys.executable, "-c", BUILD, str(ROOT), kind, str(folder)], 120)
    assert done.ok, done.err
    with zipfile.ZipFile(folder / done.out.splitlines()[-1]) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def found(site):
    """Where a fresh process, outside of the checkout, finds pynode and the Julia package."""
    libraries = str(Path(torch.__file__).parents[1])
    done = process.run([sys.executable, "-I", "-S", "-c", FIND, str(site), libraries], 120)
    assert done.ok, done.err
    return [Path(path) for path in done.out.split()]


def test_the_wheel_holds_the_julia_package(tmp_path):
    site = built("build_wheel", tmp_path)
    held = {str(path.relative_to(site / "pynode" / "_julia")) for path in (site / "pynode" / "_julia").rglob("*.*")}
    own = {path for part in ("src", "ext") for path in (ROOT / "julia" / part).iterdir()}
    own |= {ROOT / "julia" / name for name in ("Project.toml", "check.jl")}
    assert held == {os.path.join("PyNODE", str(path.relative_to(ROOT / "julia"))) for path in own}
    assert not list(site.rglob("juliapkg.json")), "juliapkg would find it, and every user of juliacall would get the solvers"
    metadata = next(site.glob("*.dist-info/METADATA")).read_text()
    assert "Provides-Extra: julia" in metadata and "Provides-Extra: diffeqpy" in metadata
    assert found(site) == [site / "pynode" / "__init__.py", site / "pynode" / "_julia" / "PyNODE"]


def test_an_editable_installation_uses_the_checkout(tmp_path):
    pytest.importorskip("editables", reason="editables, which editable installations need, is not there: pip install editables")
    site = built("build_editable", tmp_path)
    assert found(site) == [ROOT / "pynode" / "__init__.py", ROOT / "julia"]


def test_versions_are_written_once():
    """The environment of the repository asks for nothing that the package does not."""
    text = (ROOT / "Project.toml").read_text()
    name, uuid, limits = bounds.optional("radau")
    assert f'{name} = "{uuid}"' in text and f'{name} = "{limits}"' in text and f'julia = "{bounds.julia()}"' in text
    assert 'PyNODE = "212f099a-337b-5f73-a94d-1feccfba2269"' in text
