"""Installing, choosing and examining Julia, where there is none: stand-ins for juliapkg and for
Julia itself."""

import errno
import json
import os
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

import pynode
from pynode import cli
from pynode.backends import registry
from pynode.backends.julia.setup import install, process, versions
from pynode.backends.julia.setup.locate import MARK, PAIR, configuration, locate
from tests.support import fakes

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in for Julia is a shell script")


def test_install(machine):
    """What it says first, what it asks juliapkg for, and that a start finds it afterwards."""
    told = machine.told
    assert locate().problem == "Julia is not installed: pynode julia install"
    assert machine.install("sensitivity") == machine.project
    assert "about 0.5 to 1.7 GB, and 5 to 35 minutes" in told[0] and str(machine.project) in told[0]
    assert "SciMLSensitivity" in told[0] and "Julia is ready" in told[-1]
    asked = fakes.read(machine.project / "pyjuliapkg" / "juliapkg.json")
    packages = asked["packages"]
    assert asked["julia"] == "1.10.3" and set(packages) == {
        *versions.required(),
        "SciMLSensitivity",
    }
    assert (
        packages["SciMLBase"]["uuid"].startswith("0bca4576")
        and packages["SciMLBase"]["version"] == "3.17"
    )
    assert packages["LinearSolve"]["preferences"] == {"LoadMKL_JLL": False}
    location = pynode.julia.status()
    assert location.ready and (location.source, location.exe) == ("installation", machine.julia)
    assert "load(['SciMLSensitivity'])" in machine.steps[0][-1]

    machine.install("radau")
    assert fakes.read(machine.project / MARK)["options"] == ["radau", "sensitivity"]
    assert (
        "OrdinaryDiffEqFIRK"
        in fakes.read(machine.project / "pyjuliapkg" / "juliapkg.json")["packages"]
    )


def test_what_it_installs_is_known_to_juliapkg():
    juliapkg = pytest.importorskip(
        "juliapkg", reason="juliapkg is not installed: pip install juliacall"
    )
    compat = pytest.importorskip("juliapkg.compat")
    for package in install.packages(list(versions.OPTIONS)):
        package.pop("preferences", None)  # not known to older ones
        assert juliapkg.PkgSpec(**package).depsdict()["uuid"] == package["uuid"]
        assert compat.Compat.parse(package.get("version", "1"))
    assert compat.Compat.parse(versions.julia())


FAILURES = {
    "network": (
        urllib.error.URLError("no route to host"),
        "could not be downloaded (no route to host). Check the connection",
    ),
    "packages": (
        subprocess.CalledProcessError(1, "julia"),
        "gave up, with its own message above. If it finds versions",
    ),
    "disk": (
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        "No space left on device. What was downloaded is kept",
    ),
    "other": (
        Exception("could not find Julia ^1.10.3\nmore"),
        "failed: could not find Julia ^1.10.3. What was",
    ),
}


@pytest.mark.parametrize("earlier", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_installation_leaves_what_was_there(machine, failure, earlier):
    if earlier:
        machine.install()
    before = {path: path.read_bytes() for path in machine.project.rglob("*") if path.is_file()}
    error, sentence = FAILURES[failure]

    class Failing(install.Juliapkg):
        def download(self, julia, packages):
            (machine.project / "Project.toml").write_text("half")
            assert not (machine.project / MARK).exists(), (
                "a killed process would leave a whole-looking installation"
            )
            raise error

    with pytest.raises(pynode.julia.JuliaUnavailable) as failed:
        machine.install("radau", installer=Failing)
    assert sentence in str(failed.value) and len(str(failed.value).splitlines()) == 1
    assert {
        path: path.read_bytes() for path in machine.project.rglob("*") if path.is_file()
    } == before
    assert locate().ready == earlier


def test_a_failed_precompilation_and_ctrl_c(machine):
    failed = process.ProcessResult(
        1,
        "",
        "Traceback\npynode.backends.julia.runtime.JuliaUnavailable: Julia has no wings.\n",
        1.0,
    )
    with pytest.raises(
        pynode.julia.JuliaUnavailable, match=r"loading them failed: Julia has no wings\. Run pynode"
    ):
        machine.install(run=lambda *_, **__: failed)
    assert not locate().ready

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine.install(run=interrupted)
    assert not locate().ready and not list(machine.project.rglob("*.json"))


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({PAIR[0]: "/x", PAIR[1]: "/y"}, "unset both, or add the packages to that project"),
        ({"PYTHON_JULIAPKG_OFFLINE": "yes"}, "PYTHON_JULIAPKG_OFFLINE forbids downloads: unset it"),
    ],
)
def test_an_installation_that_would_not_be_used_is_refused(machine, capsys, variables, sentence):
    """The command says so in one line."""
    for name, value in variables.items():
        machine.setenv(name, value)
    with pytest.raises(pynode.julia.JuliaUnavailable, match=sentence):
        pynode.julia.install(progress=print)
    assert cli.main(["julia", "install", "--radau"]) == 1
    said = capsys.readouterr().err
    assert sentence in said and said.startswith("pynode: ") and len(said.splitlines()) == 1


def test_an_installation_beside_a_remembered_julia_is_refused(machine):
    (machine.project / "Project.toml").touch()
    pynode.julia.use(machine.julia, machine.project)
    with pytest.raises(pynode.julia.JuliaUnavailable, match="pynode julia use --forget"):
        pynode.julia.install(progress=print)


def test_an_installation_for_another_version_of_pynode(machine):
    machine.install()
    mark = fakes.read(machine.project / MARK)
    mark["required"][0][1] = "0.1"
    (machine.project / MARK).write_text(json.dumps(mark))
    assert "needs other Julia packages" in locate().problem
    machine.install()
    Path(machine.julia).unlink()
    assert "is gone: pynode julia install again" in locate().problem


def test_looking_changes_nothing(machine):
    machine.install()
    fakes.forget_modules()
    before = dict(os.environ)
    assert pynode.julia.status().ready
    assert dict(os.environ) == before and not any(name in sys.modules for name in fakes.MODULES)


def test_use_and_forget(machine, capsys, monkeypatch, tmp_path):
    assert (
        cli.main(["julia", "use", "--exe", machine.julia, "--project", str(machine.project)]) == 2
    )
    assert "holds no Project.toml" in capsys.readouterr().err
    (machine.project / "Project.toml").touch()
    monkeypatch.setenv("JULIA_DEPOT_PATH", "/shared/depot")
    assert (
        cli.main(["julia", "use", "--exe", machine.julia, "--project", str(machine.project)]) == 0
    )
    monkeypatch.delenv("JULIA_DEPOT_PATH")
    location = locate()
    assert (
        location.ready
        and location.source == "configuration"
        and location.environment["JULIA_DEPOT_PATH"] == "/shared/depot"
    )
    assert cli.main(["julia", "status"]) == 0 and "(pynode julia use)" in capsys.readouterr().out
    assert cli.main(["julia", "use", "--forget"]) == 0 and not configuration().exists()
    assert cli.main(["julia", "status"]) == 1

    old = fakes.make_julia(tmp_path / "old", "1.9.4")
    wrong = {
        old: "is Julia 1.9.4, but 1.10.3",
        "/bin/sh": "is not a Julia",
        "absent": "is not an executable",
    }
    for exe, sentence in wrong.items():
        assert cli.main(["julia", "use", "--exe", exe, "--project", str(machine.project)]) == 2
        assert sentence in capsys.readouterr().err
    assert (
        cli.main(["julia", "use", "--exe", old])
        == cli.main(["julia", "use", "--forget", "--exe", old])
        == 2
    )


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"exe": 1, "project": 2, "environment": {}}', '{"exe": "a", "project": "b"}'],
)
def test_a_corrupt_configuration(machine, text):
    configuration().parent.mkdir(parents=True)
    configuration().write_text(text)
    assert (
        f"{configuration()} cannot be read: write it anew by pynode julia use" in locate().problem
    )


@pytest.mark.parametrize(
    ("exe", "project", "sentence"),
    [
        (
            "JULIA",
            None,
            "PYTHON_JULIACALL_PROJECT is not set, but its twin is: set both, or unset both",
        ),
        (None, "/", "PYTHON_JULIACALL_EXE is not set"),
        ("/absent/julia", "/", "there is no Julia at /absent/julia: correct the variable"),
        ("JULIA", "/absent", "there is no Julia project at /absent: correct the variable"),
    ],
)
def test_variables_that_are_wrong(machine, exe, project, sentence):
    for name, value in zip(PAIR, (machine.julia if exe == "JULIA" else exe, project)):
        if value is not None:
            machine.setenv(name, value)
    with pytest.raises(pynode.julia.JuliaUnavailable, match=sentence):
        pynode.julia.start()


@pytest.mark.parametrize(
    ("version", "changes", "sentence"),
    [
        ("1.9.4", {}, "is Julia 1.9.4, but 1.10.3 or a later 1.x is needed"),
        (
            "1.10.8",
            {"SciMLBase": ""},
            r"lacks the package SciMLBase \(3.17\): in that project, Pkg.add",
        ),
        ("1.10.8", {"SciMLBase": None}, r"has SciMLBase 0.0.1, outside the bounds 3.17"),
        (
            "1.10.8",
            {"PythonCall": None},
            r"has PythonCall 0.0.1, and juliacall is 0.9.34, .*pip install juliacall==0.0.1",
        ),
        ("1.10.8", {}, r"did not start \(this juliacall cannot start\): see pynode doctor"),
    ],
)
def test_a_julia_that_does_not_start(machine, version, changes, sentence):
    """The cause is named; it is not tried twice, not even with another Julia; backend='auto' says
    so in a line and serves."""
    machine.choose(version, **changes)
    with pytest.raises(pynode.julia.JuliaUnavailable, match=sentence) as first:
        pynode.julia.start()
    machine.choose("1.9.3")
    with pytest.raises(pynode.julia.JuliaUnavailable) as second:
        pynode.julia.start()
    assert str(first.value) == str(second.value) and len(str(first.value).splitlines()) == 1
    with pytest.warns(
        UserWarning, match="Vern9 is Julia's alone. .*The torch engine serves with DP8"
    ):
        engine, method = registry.choose("auto", "Vern9")
    assert engine.name == "torch" and method.name == "DP8"


def test_doctor(machine, tmp_path, capsys):
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert (
        "note     Julia         Julia is not installed" in text
        and "-> pynode julia install" in text
    )

    def examined(version="1.10.8", **more):
        machine.choose(version, **more)
        code = cli.main(["doctor", "--json", "--limit", "600"])
        said = json.loads(capsys.readouterr().out)
        assert (
            said["ok"]
            == (code == 0)
            == all(finding["state"] != "problem" for finding in said["findings"])
        )
        return {f"{finding['name']}, {finding['state']}": finding for finding in said["findings"]}

    found = examined(version="1.9.4")
    assert found["version, problem"]["text"].startswith("Julia 1.9.4") and "trials, note" in found
    found = examined(PythonCall=None, OrdinaryDiffEqFIRK="2.3.0")
    assert "has PythonCall 0.0.1" in found["packages, problem"]["text"] and "trials, note" in found
    assert found["packages, ok"]["text"] == "OrdinaryDiffEqFIRK 2.3.0"
    assert "SciMLSensitivity is not in the project" in found["packages, note"]["text"]
    # A juliacall that fails: both orders and the trial are tried, each says why, and what to do.
    machine.setenv(
        "PYTHONPATH",
        os.pathsep.join((os.environ.get("PYTHONPATH", ""), str(tmp_path / "packages"))),
    )
    found = examined(CUDA="6.0.0")
    assert found["import order, problem"]["text"].endswith(
        "failed: RuntimeError: this juliacall cannot start"
    )
    assert found["import order, problem"]["remedy"] == "import torch or pynode before juliacall"
    assert "this juliacall cannot start" in found["trial, problem"]["text"]
    machine.setenv("JULIA_NUM_THREADS", "4")
    assert "threads of Julia: 4;" in examined()["threads, ok"]["text"]
    machine.setenv("PYTHON_JULIACALL_HANDLE_SIGNALS", "no")
    problem = examined()["threads, problem"]
    assert "4 threads without handling signals" in problem["text"]
    assert problem["remedy"] == "unset PYTHON_JULIACALL_HANDLE_SIGNALS"


def test_a_remembered_julia_is_found_by_a_later_process(machine, tmp_path):
    (machine.project / "Project.toml").touch()
    pynode.julia.use(machine.julia, machine.project)
    environment = fakes.bare_environment(tmp_path)
    environment["PYTHONPATH"] += os.pathsep + str(tmp_path / "packages")
    done = process.run([sys.executable, "-m", "pynode", "julia", "status"], 120, environment)
    assert (
        done.ok
        and machine.julia in done.out
        and str(machine.project) in done.out
        and "pynode julia use" in done.out
    )
