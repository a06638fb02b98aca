"""The set-ups of Kim et al. 2021, Stiff neural ordinary differential equations: Robertson's
reaction, the pollution problem.

    python examples/kim2021.py robertson|pollution [further options of pynode reproduce]

The same as ``pynode reproduce robertson``. Trains the network of the paper as the paper does, and
with the kit of pynode.train; says how far every species is from the truth, and what a solve by an
explicit method would take. The pictures go to out/kim2021-NAME; docs/training.md has the numbers of
a run.
"""

import sys
from pathlib import Path

from pynode.cli import main

if __name__ == "__main__":
    name, further = sys.argv[1] if sys.argv[1:] else "robertson", sys.argv[2:]
    out = Path(__file__).resolve().parent.parent / "out" / f"kim2021-{name}"
    sys.exit(main(["reproduce", name, "--out", str(out), *further]))
