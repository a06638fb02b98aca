"""Pkg.test of the Julia package PyNODE, with the packages of the project that solves use."""

import os
import re

import pytest

from pynode.backends.julia.setup import process, versions
from pynode.backends.julia.setup.locate import locate

FOUND = locate()
pytestmark = [
    pytest.mark.skipif(not FOUND.ready, reason=f"no Julia: {FOUND.problem}"),
    pytest.mark.skipif(
        "PKG_TEST" not in os.environ, reason="Pkg.test takes many minutes: make test-julia"
    ),
]
LIMIT = 3600.0


@pytest.fixture(scope="module")
def tested():
    script = versions.package() / "test.jl"
    command = [FOUND.exe, "--startup-file=no", f"--project={FOUND.project}", str(script)]
    return process.run(command, LIMIT, FOUND.environment)


def test_the_package_passes(tested):
    assert tested.ok, tested.end + tested.out[-8000:] + tested.err[-2000:]


def test_the_package_leaves_nothing_out(tested):
    left_out = re.findall(r"Not run: (.*)", tested.out + tested.err)
    if left_out:
        pytest.skip("the Julia package tests left out: " + "; ".join(left_out))
