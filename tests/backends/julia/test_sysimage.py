"""The system image: what must be there to make one, and when a start uses it. PackageCompiler and
Julia have stand-ins."""

import os
from pathlib import Path

import pytest

from pynode import cli, doctor
from pynode.backends.julia.runtime import JuliaUnavailable
from pynode.backends.julia.setup import image, process, sysimage
from pynode.backends.julia.setup.locate import locate

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in for Julia is a shell script")
HELD = {"PackageCompiler": "2.2.0", "OrdinaryDiffEqFIRK": "2.3.0"}


@pytest.fixture
def chosen(machine, monkeypatch):
    """A machine whose variables name a Julia with PackageCompiler; JULIA_CC names a compiler."""
    monkeypatch.setenv("PYNODE_CACHE", str(machine.folder / "cache"))
    monkeypatch.setenv("JULIA_CC", "cc")
    (machine.project / "Manifest.toml").write_text("first")
    machine.choose(**HELD)
    return machine


def compiled(command, *_, **__):
    """What the process does that compiles: it writes the file that it is told."""
    Path(command[4]).write_text("image")
    return process.ProcessResult(0, "", "", 300.0)


def test_it_is_used_until_a_package_changes(chosen):
    commands = []

    def run(command, *arguments):
        commands.append(command)
        return compiled(command)

    assert image.VARIABLE not in locate().environment
    made = sysimage.make(chosen.told.append, run)
    assert made.read_text() == "image"
    assert commands[0][3].endswith("sysimage.jl") and commands[0][5:] == ["OrdinaryDiffEqFIRK"]
    assert "PyNODE, OrdinaryDiffEqFIRK into" in chosen.told[0]
    assert locate().environment == {image.VARIABLE: str(made)}
    assert [path.suffix for path in sorted(made.parent.iterdir())] == [".so", ".txt"]
    (chosen.project / "Manifest.toml").write_text("second")
    assert locate().environment == {}
    found = [finding for finding in doctor.examine(10.0) if finding.name == "system image"]
    assert found[0].state == doctor.NOTE and "pynode julia sysimage" in found[0].remedy


def test_a_failure_leaves_the_earlier_one(chosen):
    made = sysimage.make(chosen.told.append, compiled)

    def run(command, *_):
        Path(command[4]).write_text("half")
        return process.ProcessResult(1, "", "ERROR: no space", 9.0)

    with pytest.raises(JuliaUnavailable, match="PackageCompiler failed: ERROR: no space"):
        sysimage.make(chosen.told.append, run)
    assert made.read_text() == "image" and len(list(made.parent.iterdir())) == 2
    assert locate().environment == {image.VARIABLE: str(made)}


def test_without_a_compiler(chosen, monkeypatch):
    monkeypatch.delenv("JULIA_CC")
    with pytest.raises(JuliaUnavailable, match=r"needs a C compiler.*install one, or name it in"):
        sysimage.make(chosen.told.append, compiled)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, r'needs the Julia package PackageCompiler: in the project .*, Pkg\.add\("PackageC'),
        ({"LinearSolve": ""}, "lacks the package LinearSolve"),
    ],
)
def test_without_a_package(chosen, changes, sentence):
    chosen.choose(**changes)
    with pytest.raises(JuliaUnavailable, match=sentence):
        sysimage.make(chosen.told.append, compiled)


def test_without_a_folder(chosen, monkeypatch):
    monkeypatch.setenv("PYNODE_CACHE", "off")
    assert locate().environment == {}
    with pytest.raises(JuliaUnavailable, match="PYNODE_CACHE=off forbids"):
        sysimage.make(chosen.told.append, compiled)


def test_the_command_removes_it(chosen, capsys):
    made = sysimage.make(chosen.told.append, compiled)
    for line in ("Removed.", "There was no system image."):
        assert cli.main(["julia", "sysimage", "--remove"]) == 0
        assert capsys.readouterr().out.strip() == line
    assert not made.exists() and locate().environment == {}
