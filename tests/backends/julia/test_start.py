"""A real Julia that cannot serve: each in a fresh process, each a sentence, and the process goes on
with torch.

The same with stand-ins, and Julia absent, is in test_install.py; a Julia that serves, in
test_solve.py.
"""

import re
import shutil
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

from pynode import doctor
from pynode.backends.julia.setup import process, versions
from pynode.backends.julia.setup.locate import PAIR, Location, locate
from pynode.backends.julia.setup.packages import check
from tests.support import ROOT

FOUND = locate()
pytestmark = pytest.mark.skipif(not FOUND.ready, reason=f"no Julia: {FOUND.problem}")
# What a user does, twice: the second attempt must neither crash nor say another thing.
SOLVE = """
import warnings, torch, pynode
f, y0 = (lambda t, y: -y), torch.ones(2, dtype=torch.float64)
for attempt in range(2):
    try:
        print("solved", pynode.solve(f, y0, [0.0, 1.0], method="Rodas5P", backend="julia").y[-1])
    except pynode.julia.JuliaUnavailable as error:
        print(error)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    print(pynode.solve(f, y0, [0.0, 1.0], method="Vern9", backend="auto").method)
print(*(w.message for w in said if w.category is UserWarning))
"""


def said(code, **environment):
    """Lines printed by a fresh process that uses the Julia found here, but for these variables."""
    chosen = FOUND.environment | dict(zip(PAIR, (FOUND.exe, FOUND.project)))
    done = process.run(
        [sys.executable, "-c", code], 300, chosen | {"PYTHONPATH": str(ROOT)} | environment
    )
    assert done.ok, done.end + done.err
    return done.out.splitlines()


def project_without(folder, name):
    """A copy of the project found here without one package."""
    folder.mkdir()
    for path in Path(FOUND.project).glob("*.toml"):
        shutil.copy(path, folder)
    project, manifest = folder / "Project.toml", folder / "Manifest.toml"
    project.write_text(re.sub(rf"(?m)^{name} = .*\n", "", project.read_text()))
    manifest.write_text(
        re.sub(rf"(?ms)^\[\[deps\.{name}\]\]\n.*?(?=^\[\[)", "", manifest.read_text())
    )
    return str(folder)


def in_one_sentence(lines, *words):
    first, second, method, warning = lines
    assert (
        first == second and first.startswith("Julia cannot be used here: ") and first.endswith(".")
    )
    assert all(word in first for word in words), first
    assert (
        method == "DP8"
        and warning == f"Vern9 is Julia's alone. {first} The torch engine serves with DP8."
    )


def test_a_package_is_missing(tmp_path):
    project = project_without(tmp_path / "lacking", "OrdinaryDiffEqVerner")
    lines = said(SOLVE, PYTHON_JULIACALL_PROJECT=project)
    in_one_sentence(
        lines,
        f"the project {project} lacks the package OrdinaryDiffEqVerner",
        'Pkg.add("OrdinaryDiffEqVerner")',
    )


def test_julia_was_started_by_another_package_with_its_project(tmp_path):
    project = project_without(tmp_path / "other", "OrdinaryDiffEqVerner")
    lines = said("from juliacall import Main\n" + SOLVE, PYTHON_JULIACALL_PROJECT=project)
    in_one_sentence(
        lines,
        "another package had started Julia, with its own project",
        "lacks the package OrdinaryDiffEqVerner",
    )


def test_pythoncall_and_juliacall_differ(tmp_path):
    """A copy of juliacall that says it is of another version than PythonCall in the project."""
    held = metadata.version("juliacall")
    shutil.copytree(Path(find_spec("juliacall").origin).parent, tmp_path / "juliacall")
    module = tmp_path / "juliacall" / "__init__.py"
    module.write_text(module.read_text().replace(f"'{held}'", "'0.9.1'"))
    (tmp_path / "juliacall-0.9.1.dist-info").mkdir()
    (tmp_path / "juliacall-0.9.1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: juliacall\nVersion: 0.9.1\n"
    )
    lines = said(SOLVE, PYTHONPATH=f"{tmp_path}:{ROOT}")
    in_one_sentence(
        lines, f"has PythonCall {held}, and juliacall is 0.9.1", f"pip install juliacall=={held}"
    )


def test_the_packages_are_read_as_julia_loads_them(tmp_path):
    packages, problem = check(FOUND)
    assert not problem and all(package.within for package in packages if not package.optional)
    held = {package.name: package for package in packages}
    assert held["PythonCall"].version == metadata.version("juliacall") and set(
        versions.required()
    ) < set(held)
    lacking = Location(
        "variables",
        FOUND.exe,
        project_without(tmp_path / "x", "SciMLBase"),
        environment=FOUND.environment,
    )
    (missing,) = (
        package for package in check(lacking)[0] if not (package.optional or package.within)
    )
    assert missing.name == "SciMLBase" and missing.version == ""


def test_what_doctor_tries_works(monkeypatch, capsys):
    """The trial of a solve with its gradient, here in this process; doctor runs it in one of its
    own."""
    doctor.trial("NativeGauss")
    assert '"gradients": ' in capsys.readouterr().out
    assert doctor._trial("NativeGauss", 300.0).state == doctor.OK
