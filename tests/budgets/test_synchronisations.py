"""Budgets: how often the host waits for a device in a step, on a strict pretended one.

`python -m tests.support.synchronisations` shows today's numbers and all their places.
"""

import json
import subprocess
import sys

from tests.support import ROOT
from tests.support.pretended import require

# Of each attempted step of one system, or each pass of a batch: forward and backward, reads and
# copies to the device together. To lower, never to raise.
BUDGETS = {
    "Tsit5": (1.1, 0.1),
    "Vern7": (1.1, 0.1),
    "RKC": (2.5, 2.5),
    "AdamsPECE": (1.6, 1.6),
    "Rodas5P": (2.1, 0.1),
    "Rosenbrock23": (2.1, 0.1),
    "Kvaerno5": (7.5, 0.1),
    "KenCarp4": (6.6, 0.1),
    "RadauIIA5": (2.8, 0.1),
    "QNDF": (2.2, 0.1),
    "FBDF": (2.1, 0.1),
    "ABDF2": (1.7, 0.1),
    "AutoTsit5(Rodas5P())": (2.1, 0.1),
    "batched Tsit5": (1.1, 0.1),
    "batched DP8": (1.1, 0.1),
    "batched Rodas5P": (2.1, 0.1),
    "batched Kvaerno5": (1.8, 0.1),
    "batched QNDF": (2.0, 0.1),
    "batched FBDF": (2.1, 0.1),
    "attended Tsit5": (1.1, 0.1),
    "attended Rodas5P": (1.1, 0.1),
    "attended QNDF": (1.1, 0.1),
    "attended FBDF": (1.1, 0.1),
    "Tsit5 with an event": (2.1, 0.1),
    "Rodas5P with an event": (3.1, 0.1),
    "QNDF with an event": (3.3, 0.1),
    "batched Tsit5 with an event": (2.1, 0.1),
    "batched Rodas5P with an event": (3.1, 0.1),
    "batched QNDF with an event": (3.1, 0.1),
    "SDE EM": (0.1, 0.1),
    "SDE ImplicitEM": (3.1, 0.1),
}


def test_synchronisations():
    """In a process of its own: the device must exist before the first backward pass."""
    require()
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.synchronisations", "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    measured = json.loads(done.stdout)
    assert set(measured) == set(BUDGETS)
    wrong = []
    for case, budgets in BUDGETS.items():
        for direction, budget in zip(("forward", "backward"), budgets, strict=True):
            counts = measured[case][direction]
            found = counts["read"] + counts["sent"]
            if found > budget:
                wrong.append(f"{case}, {direction}: {found:.2f}, more than {budget}")
                wrong += [f"    {each:6.2f} {place}" for place, each in counts["places"].items()]
    assert not wrong, "synchronisations in each step or pass:\n" + "\n".join(wrong)
