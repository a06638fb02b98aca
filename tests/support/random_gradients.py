"""What is wrong with the gradients of random solves.

    python -m tests.support.random_gradients explicit 17     # case 17 and its failures

The reference is differentiation through the loop, adjoint="direct", for a batch that of every row
alone. Differences of solves with fixed steps check the reference.
"""

import random
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import pynode
from pynode import solve
from tests.support.random_cases import SWITCHING, Built, Plan, pack, plan, unpack

SHIFT = 2.0**-15


def outputs(solution, built, alone):
    """All that a loss may use, as a list of tensors with a leading dimension of outputs; of one row
    alone, or of all."""
    y = unpack(built.plan.structure, solution.y)
    records = solution.events
    if built.rows and not alone:
        return [torch.cat([y[:, i], *marks(records[i], built)]) for i in range(built.rows)]
    parts = [y, *marks(records, built)]
    if built.plan.dense and not built.rows:
        parts.append(
            unpack(
                built.plan.structure,
                solution(built.end * torch.tensor([0.1, 0.23], dtype=torch.float64)),
            )
        )
    return [torch.cat(parts)]


def marks(records, built):
    """Times and states of what occurred, as rows like those of the outputs."""
    found = []
    for record in records:
        states = [
            unpack(built.plan.structure, state).unsqueeze(0) for state in (record.y, record.after)
        ]
        found += [record.t.expand(1, built.n), *states]
    return found


def run(plan, adjoint=None, shift=0.0):
    """(loss, values of the outputs, Built) of a solve, of its rows one by one where adjoint is
    'direct'."""
    built = Built(plan, shift)
    options = built.options()
    if adjoint is None:
        adjoint = (
            pynode.DiscreteAdjoint(checkpoints=plan.checkpoints)
            if plan.checkpoints
            else plan.adjoint
        )
    y0, args = pack(plan.structure, built.start), tuple(built.args)
    if not built.rows:
        found = outputs(
            solve(built.f, y0, built.times, args=args, adjoint=adjoint, **options), built, True
        )
    elif adjoint != "direct":
        solution = solve(built.f, y0, built.times, args=args, batched=True, **options)
        found = outputs(solution, built, False)
    else:
        found = [
            out for i in range(built.rows) for out in outputs(alone(built, i, options), built, True)
        ]
    generator = torch.Generator().manual_seed(plan.seed)
    weights = [torch.randn(20, built.n, generator=generator, dtype=torch.float64) for _ in found]
    # Where a terminal event leaves outputs out, there are NaN for rows and nothing for a single
    # system.
    kept = [out[~out.detach().isnan().any(-1)] for out in found]
    return (
        sum((w[: len(out)] * out).sum() for w, out in zip(weights, kept)),
        torch.cat(kept).detach(),
        built,
    )


def alone(built, i, options):
    """Row i of a batch, solved as a single system; tensors in args whose first dimension is the
    rows' are cut."""
    cut = tuple(
        a[i] if isinstance(a, torch.Tensor) and a.dim() and len(a) == built.rows else a
        for a in built.args
    )
    times = (
        built.times[:, i]
        if isinstance(built.times, torch.Tensor) and built.times.dim() == 2
        else built.times
    )
    return solve(
        built.f,
        pack(built.plan.structure, built.start[i]),
        times,
        args=cut,
        adjoint="direct",
        **options,
    )


@dataclass(frozen=True)
class Failure:
    """kind: missing, wrong, spurious, value, error, reference; name: of the leaf."""

    plan: Plan
    kind: str
    name: str
    text: str

    def __str__(self):
        return (
            f"{self.plan.family} {self.plan.seed}: {self.kind}: {self.name}: {self.text}\n   "
            f" {self.plan}"
        )


def refused(error) -> bool:
    """Whether the error is a sentence of pynode's own, raised in one of its files."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    own = Path(pynode.__file__).parent in Path(place.filename).parents and place.line.startswith(
        "raise"
    )
    return own and isinstance(error, (ValueError, TypeError, RuntimeError))


def gradients(loss, built):
    """The gradients of all leaves by name, None where there is none."""
    if not loss.requires_grad:
        return dict.fromkeys(built.leaves)
    found = torch.autograd.grad(loss, list(built.leaves.values()), allow_unused=True)
    return dict(zip(built.leaves, found))


def tolerance(plan):
    """What gradients may differ by, relative to the largest."""
    if plan.family == "continuous" or (plan.rows and plan.step_size is None):
        return 100 * max(plan.rtol, 1e-6)
    return 1e-6


def judged(plan, differences=True):
    """(failures of a case, whether it was refused)."""
    try:
        loss, values, built = run(plan)
        found = gradients(loss, built)
    except Exception as error:
        if refused(error):
            return [], str(error)
        where = traceback.extract_tb(error.__traceback__)[-1]
        return [
            Failure(
                plan, "error", type(error).__name__, f"{error} ({where.filename}:{where.lineno})"
            )
        ], None
    exact = plan
    if plan.family == "continuous":
        # The steps of a method have less exact derivatives than values. A continuous adjoint does
        # not differentiate them, and may be more exact than the reference.
        exact = replace(plan, rtol=0.01 * plan.rtol)
    loss, wanted_values, reference = run(exact, "direct")
    wanted = gradients(loss, reference)
    failures = compare(plan, found, wanted, values, wanted_values)
    return failures + (against_differences(plan, wanted) if differences else []), None


def compare(plan, found, wanted, values, wanted_values):
    failures, bound = [], tolerance(plan)
    if values.shape != wanted_values.shape or (values - wanted_values).abs().max() > bound:
        text = f"{tuple(values.shape)} and {tuple(wanted_values.shape)}"
        if values.shape == wanted_values.shape:
            text = f"{float((values - wanted_values).abs().max()):.3g}"
        failures.append(Failure(plan, "value", "the outputs", text))
    largest = max([float(g.abs().max()) for g in wanted.values() if g is not None], default=0.0)
    for name, right in wanted.items():
        mine = found[name]
        size = 0.0 if right is None else float(right.abs().max())
        if mine is None and size > 1e-12 * largest:
            failures.append(
                Failure(plan, "missing", name, f"None, right {right.flatten()[:3].tolist()}")
            )
        if mine is None:
            continue
        right = torch.zeros_like(mine) if right is None else right
        off = float((mine - right).abs().max())
        # Parts of the gradient of a leaf in single precision are rounded to it, and may cancel.
        own = bound if mine.dtype == torch.float64 else max(bound, 1e-4)
        # A gradient that is small because its parts cancel is measured against a tenth of the
        # largest.
        if not off <= own * max(size, 0.1 * largest):
            text = f"{mine.flatten()[:3].tolist()}, right {right.flatten()[:3].tolist()}"
            failures.append(Failure(plan, "wrong" if size else "spurious", name, text))
    return failures


def against_differences(plan, wanted):
    """The reference beside a central difference of solves along one direction of all leaves."""
    # Steps that move over a jump which they are not told, with the choice of steps or the time of
    # another jump, are part of the difference.
    untold = (
        not plan.jumps
        and plan.event in ("jump", "preset")
        and not set(SWITCHING).isdisjoint(plan.terms)
    )
    if plan.step_size is None or untold:
        return []
    with torch.no_grad():
        plus, minus = (run(plan, "direct", shift) for shift in (SHIFT, -SHIFT))
        difference = float(plus[0] - minus[0]) / (2 * SHIFT)
        ways = {
            name: (leaf - minus[2].leaves[name]) / (2 * SHIFT)
            for name, leaf in plus[2].leaves.items()
        }
        parts = [ways[name] * g for name, g in wanted.items() if g is not None]
    product, size = (
        float(sum(part.sum() for part in found))
        for found in (parts, [part.abs() for part in parts])
    )
    # The times of events and jumps move by the slope of the solution, which is that of the steps to
    # their order alone.
    if abs(product - difference) <= (0.03 if "events" in plan.family else 1e-3) * size + 1e-6:
        return []
    return [Failure(plan, "reference", "all leaves", f"{product}, difference {difference}")]


def misused(plan, which=None):
    """(Failure or None, what was changed, whether it was refused) of a change between the solve and
    its gradient.

    which: the name of the change, a random one if None. It must be refused, by pynode or by torch,
    or leave the gradient as it was. A solve that is refused itself leaves nothing to change.
    """
    try:
        loss, _, untouched = run(plan)
    except (ValueError, TypeError, RuntimeError) as error:
        if refused(error):
            return None, "", False
        raise
    wanted = gradients(loss, untouched)
    loss, _, built = run(plan)
    named = [item for item in built.changes if which in (None, item[0])]
    name, change = random.Random(f"misuse {plan.seed}").choice(named)
    with torch.no_grad():
        change()
    try:
        found = gradients(loss, built)
    except RuntimeError as error:
        if refused(error) or "inplace operation" in str(error):
            return None, name, True
        return Failure(plan, "error", name, str(error)), name, False
    for leaf, right in wanted.items():
        mine = found[leaf]
        same = (
            mine is None
            if right is None
            else mine is not None and torch.allclose(mine, right, rtol=1e-9, atol=1e-12)
        )
        if not same:
            return Failure(plan, "changed", name, f"{leaf}: {mine}, right {right}"), name, False
    return None, name, False


def shrunk(failure):
    """The plan of a failure with as few terms and as plain as it still fails in the same way."""

    def same(candidate):
        try:
            return any(f.kind == failure.kind for f in judged(candidate)[0])
        except Exception:
            return False

    plain = failure.plan
    for name in failure.plan.terms:
        fewer = replace(plain, terms=tuple(x for x in plain.terms if x != name))
        plain = fewer if fewer.terms and same(fewer) else plain
    base = Plan(plain.seed, plain.family, plain.terms)
    for name in (
        "event",
        "carrier",
        "structure",
        "times",
        "start",
        "dense",
        "jumps",
        "checkpoints",
        "max_step",
        "step_size",
        "span",
        "condition",
        "kick",
        "adjoint",
        "method",
    ):
        simpler = replace(plain, **{name: getattr(base, name)})
        plain = simpler if simpler != plain and same(simpler) else plain
    return plain


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number in sys.argv[2:]:
        case = plan(sys.argv[1], int(number))
        failures, refusal = judged(case)
        print(case, *failures, refusal or "", sep="\n")
