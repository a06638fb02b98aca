"""SciPy's solvers."""

from functools import partial

from benchmarks.peers import Peer, Solver, register
from benchmarks.problems import SMOOTH, STIFF


def by_scipy(method, case, field):
    run = case.scipy(method, field=field)

    def solve():
        found = run()
        return (found.y.T if found.success else None), {"njac": found.njev}

    return solve


def _solvers(*methods):
    return [Solver(f"SciPy {method}", partial(by_scipy, method)) for method in methods]


register(
    Peer(
        "scipy",
        module="scipy.integrate",
        place=10,
        suite={STIFF: _solvers("BDF", "LSODA"), SMOOTH: _solvers("RK45", "LSODA")},
        # The first is the base of the ratios.
        ladder={
            STIFF: _solvers("BDF", "Radau", "LSODA"),
            SMOOTH: _solvers("LSODA", "BDF", "Radau"),
        },
    )
)
