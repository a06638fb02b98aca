"""scikit-sundae: SUNDIALS' CVODE, which calls the torch field."""

from functools import partial

from benchmarks.peers import Peer, Solver, register
from benchmarks.problems import SMOOTH, STIFF


def by_cvode(method, case, field):
    run = case.cvode(method, field)

    def solve():
        found = run()
        return (found.y[1:] if found.success else None), {"njac": found.njev}

    return solve


register(
    Peer(
        "scikit-sundae",
        module="sksundae.cvode",
        place=50,
        suite={
            STIFF: [Solver("scikit-sundae CVODE BDF", partial(by_cvode, "BDF"))],
            SMOOTH: [Solver("scikit-sundae CVODE Adams", partial(by_cvode, "Adams"))],
        },
    )
)
