"""Where there is no Julia: what a solve says, and that no process is waited for without end."""

import os
import sys

import pytest
import torch

import pynode
from pynode.backends.julia import algorithms
from pynode.backends.julia.setup import process
from tests.support import fakes

pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="the processes here are those of a POSIX shell"
)

ABSENT = """
import warnings, torch, pynode
f, y0 = (lambda t, y: -y), torch.ones(2, dtype=torch.float64)
try:
    pynode.solve(f, y0, [0.0, 1.0], method="Rodas5P", backend="julia")
except pynode.julia.JuliaUnavailable as error:
    print(error)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    solution = pynode.solve(f, y0, [0.0, 1.0], method="Vern9", backend="auto")
print(*(f"{w.category.__name__} {w.filename} {w.message}" for w in said))
print(solution.method, float(solution.y[-1, 0]))
"""


@pytest.mark.parametrize("juliacall", [False, True])
def test_julia_absent(tmp_path, juliacall):
    """In a fresh process with an empty PATH: a sentence with the command that installs it, and
    torch for 'auto'."""
    environment = fakes.bare_environment(tmp_path)
    blocked = "import sys; sys.modules['juliacall'] = None\n"
    if juliacall:
        environment["PYTHONPATH"] += os.pathsep + str(fakes.make_packages(tmp_path / "packages"))
        blocked = ""
    done = process.run([sys.executable, "-c", blocked + ABSENT], 120, environment)
    assert done.ok, done.err
    error, warning, result = done.out.splitlines()
    assert error.startswith("Julia cannot be used here: ") and "pynode julia install" in error
    assert ("pip install 'torch-stiff-ode[julia]'" in error) != juliacall
    assert warning.startswith(
        "UserWarning <string> Vern9 is Julia's alone. Julia cannot be used here: "
    )
    assert warning.endswith("The torch engine serves with DP8.")
    assert result.split()[0] == "DP8" and abs(float(result.split()[1]) - 0.36787944) < 1e-5


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("AutoFBDF(Tsit5())", "FBDF cannot detect stiffness in Julia: switch from Tsit5"),
        ("AutoTsit5(Vern7())", "Vern7 cannot be switched to"),
        ("AutoTsit5(CVODE_BDF())", "CVODE_BDF cannot be switched to"),
        ("AutoTsit5(ETDRK4())", "ETDRK4 cannot be switched to"),
        ("AutoDP5", "SciML has no method 'AutoDP5'"),
        ("SDIRK2", "SciML has no method 'SDIRK2' here"),
    ],
)
def test_what_sciml_cannot_run(name, sentence):
    assert algorithms.get("autovern9").name == "AutoVern9(Rodas5P())"
    assert algorithms.get("AutoTsit5( KenCarp4 )").name == "AutoTsit5(KenCarp4())"
    with pytest.raises(ValueError, match=sentence):
        algorithms.get(name)


def test_methods_that_only_julia_has_take_a_jacobian():
    """The solve checks it before it starts Julia."""
    method = pynode.julia.method("kencarp5", jacobian="sparse")
    assert (method.name, method.jacobian) == ("KenCarp5", "sparse")
    y0 = torch.ones(2, dtype=torch.float64)
    for name, sentence in (
        ("ETDRK4", "ETDRK4 works with dense, sparse Jacobians"),
        ("Vern9", "Vern9 is explicit and needs no Jacobian"),
    ):
        with pytest.raises(ValueError, match=sentence):
            pynode.solve(
                lambda t, y: -y, y0, [0.0, 1.0], method=pynode.julia.method(name, jacobian="krylov")
            )
    with pytest.raises(ValueError, match="SciML has no method 'DP5'"):
        pynode.julia.method("DP5")


def test_nothing_hangs(tmp_path):
    """A process is ended with those that it started, when its time is up."""
    left = tmp_path / "left"
    done = process.run(["/bin/sh", "-c", f"(sleep 3; touch {left}) & sleep 30"], 0.3)
    assert done.code is None and done.end.startswith("did not end within")
    assert process.run(["/bin/sh", "-c", "kill -SEGV $$"], 30).end == "was killed by SIGSEGV"
    ticks = []
    done = process.run(
        ["/bin/sh", "-c", "sleep 0.3; echo $NEW$HOME"],
        30,
        {"NEW": "x", "HOME": None},
        ticks.append,
        0.1,
    )
    assert done.out == "x\n" and ticks and not left.exists()
    assert process.version("/absent") == ""
