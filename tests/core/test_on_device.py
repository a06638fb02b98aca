"""Everything on a strict pretended device: the numbers of the CPU, and no operands on two devices.

tests/support/on_device/ has the tests.
"""

import pytest

from tests.support import ROOT
from tests.support.alone import run_alone
from tests.support.pretended import require

FOLDER = ROOT / "tests" / "support" / "on_device"
FILES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


@pytest.mark.parametrize("name", FILES)
def test_on_a_pretended_device(name):
    require()
    done = run_alone(FOLDER / f"{name}.py")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
