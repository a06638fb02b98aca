"""Makes the reference data anew by SciPy's Radau, and says how far they are from the files beside
it, or writes them.

    python tests/reference/make.py hires --loose 1e6    a quick check of one problem: a minute
    python tests/reference/make.py hires                the same at full accuracy: half an hour
    python tests/reference/make.py --write              all of them, and writes the files: hours

The states come from one solve at rtol 3e-13, the sensitivities from another of the joint system s'
= (df/dy) s + df/dp at 1e-11. None of pynode's methods takes part: only its formulas of the fields,
which tests/problems/test_problems.py holds against the printed ones. A method of order 5 takes very
many steps at such tolerances; the step count falls like the fourth root of the factor that --loose
multiplies them by.

The files as they are come from a Radau IIA solve at the same tolerances that was made before this
script, and were compared with an independent solver: "made_with" in each says how far the two
agree.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.sparse import csc_matrix, identity, kron

from pynode import problems

FOLDER = Path(__file__).parent
RTOL, JOINT_RTOL = 3e-13, 1e-11
BELOW = 1e-4  # atol over rtol, in units of the largest value of a component
KEYS = ("problem", "y0", "t0", "parameters", "t", "y", "scaled_sensitivity", "meaning", "made_with")


class Joint:
    """z = (y, s_1, ..., s_p): states, (n,), and p dy/dp for each constant."""

    def __init__(self, field, n):
        self.field, self.n, self.k = field, n, field.k.detach().numpy()
        self.names = field.parameter_names

    def slope(self, t, z):
        y, s = z[: self.n], z[self.n :].reshape(-1, self.n)
        if not len(s):
            return self._f(y)
        return np.concatenate(
            (self._f(y), (s @ self._jac(y).T + self._in_constants(y) * self.k[:, None]).ravel())
        )

    def jac(self, t, z):
        """That of every block alone. What the blocks lack of the whole is triangular, so that
        Newton's iteration converges."""
        return csc_matrix(kron(identity(len(z) // self.n), self._jac(z[: self.n])))

    def _f(self, y):
        with torch.no_grad():
            return self.field(0.0, torch.from_numpy(y)).numpy()

    def _jac(self, y):
        with torch.no_grad():
            return self.field.jac(0.0, torch.from_numpy(y)).numpy()

    def _in_constants(self, y):
        """df/dk, (p, n)."""
        state = torch.from_numpy(y)

        def of(k):
            return torch.func.functional_call(self.field, {"k": k}, (0.0, state))

        return torch.func.jacrev(of)(self.field.k.detach()).numpy().T


def solved(joint, z0, times, t0, rtol, largest):
    """(T, len(z0)) at the times; largest: (len(z0),), of each component."""
    atol = rtol * BELOW * largest
    done = solve_ivp(
        joint.slope,
        (t0, times[-1]),
        z0,
        method="Radau",
        t_eval=times,
        rtol=rtol,
        atol=atol,
        jac=joint.jac,
    )
    assert done.success, done.message
    return done.y.T


def largest(values):
    """Of each component; those that are zero throughout get one."""
    found = np.abs(values).max(0)
    return np.where(found > 0, found, 1.0)


def made(name, times, loose):
    """(y (T, n), sensitivities {constant: (T, n)}) of a problem at the times; loose: a factor of
    the tolerances."""
    problem = problems.get(name)
    y0, t0 = problem.y0.numpy(), problem.tspan[0]
    joint = Joint(problem.field, len(y0))
    z0 = np.concatenate((y0, np.zeros(len(joint.names) * len(y0))))
    rough = solve_ivp(
        joint.slope,
        (t0, times[-1]),
        z0,
        method="Radau",
        t_eval=times,
        rtol=1e-6,
        atol=1e-12,
        jac=joint.jac,
    )
    scale = largest(rough.y.T)
    y = solved(joint, y0, times, t0, loose * RTOL, scale[: len(y0)])
    z = solved(joint, z0, times, t0, loose * JOINT_RTOL, scale)
    parts = z[:, len(y0) :].reshape(len(times), len(joint.names), len(y0))
    return y, {constant: parts[:, i] for i, constant in enumerate(joint.names)}


def difference(found, known):
    """The largest, relative to the largest value of each component."""
    return float((np.abs(found - np.array(known)) / largest(np.array(known))).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", default=sorted(path.stem for path in FOLDER.glob("*.json"))
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--write", action="store_true", help="write the files")
    kind.add_argument(
        "--loose",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="of the tolerances, for a quick check",
    )
    given = parser.parse_args()
    for name in given.names:
        path = FOLDER / f"{name}.json"
        data = json.loads(path.read_text(encoding="utf-8"))
        y, sensitivity = made(name, data["t"], given.loose)
        apart = max(
            difference(s, data["scaled_sensitivity"][constant])
            for constant, s in sensitivity.items()
        )
        print(
            f"{name}: states within {difference(y, data['y']):.1e} of the file, sensitivities"
            f" within {apart:.1e}",
            flush=True,
        )
        if given.write:
            data["y"] = y.tolist()
            data["scaled_sensitivity"] = {
                constant: s.tolist() for constant, s in sensitivity.items()
            }
            data["made_with"] = (
                f"tests/reference/make.py: SciPy's Radau, rtol {RTOL:g} (sensitivities"
                f" {JOINT_RTOL:g})"
            )
            path.write_text(
                json.dumps({key: data[key] for key in KEYS}, indent=0), encoding="utf-8"
            )


if __name__ == "__main__":
    main()
