"""Failure reports: each provoked failure is told by its cause, and its remedy, followed, works."""

import json
import re
import time

import pytest
import torch

from pynode import Event, Rodas5P, SolveError, problems, solve
from pynode.nn import NeuralODE
from tests.support.cases import tensor

ROBERTSON = problems.get("robertson")


def number(pattern, text):
    """The number that the pattern finds in the text of a remedy."""
    return float(re.search(pattern, text)[1])


def robertson(method="tsit5", **limits):
    return solve(ROBERTSON.field, ROBERTSON.y0, ROBERTSON.tspan, method=method, **limits)


def square(t, y):
    return y * y


def relay(t, y):
    return -torch.sign(y)


def root(t, y):
    return -torch.sqrt(y)


def stiff(t, y):
    return -1e20 * (y - torch.cos(t))


class RootLessState(torch.nn.Module):
    def forward(self, t, y):
        return torch.sqrt(y) - y


def ends(t, y):
    return torch.log(1 - t) * y


def detached(t, y):
    return -1e6 * (y.detach() - torch.cos(t)) - y


def falling(t, y):
    return torch.stack((y[1], torch.full_like(y[1], -9.81)))


def ball(end):
    bounce = Event(
        lambda t, y: y[0],
        reset=lambda t, y: torch.stack((y[0] * 0, -0.5 * y[1])),
        direction=-1,
        name="bounce",
    )
    return solve(falling, tensor(1.0, 0.0), [0.0, end], events=bounce)


def shaken(**options):
    return solve(
        lambda t, y: torch.cos(1000 * t) + 0 * y,
        tensor(2.0),
        [0.0, 1.0],
        method="tsit5",
        first_step=0.1,
        **options,
    )


def oscillator(**limits):
    return solve(
        lambda t, y: torch.stack((y[1], -y[0])),
        tensor(1.0, 0.0),
        [0.0, 50.0],
        method="tsit5",
        **limits,
    )


def slow(limit):
    def f(t, y):
        time.sleep(0.001)
        return -y

    return solve(f, tensor(1.0), [0.0, 1.0], method="tsit5", max_seconds=limit)


def fixed(size):
    return solve(lambda t, y: -100 * y, tensor(1.0), [0.0, 15.0], method="rk4", step_size=size)


def rows(end):
    times = torch.stack((tensor(0.0, 0.0), tensor(1.0, end)))
    return solve(square, tensor(0.1, 1.0).unsqueeze(1), times, method="rodas5p", batched=True)


# name: (the failing solve, its cause, what the finding says, the solve that follows the remedy of
# the report)
CASES = {
    "an explicit method on a stiff problem": (
        lambda: robertson(max_steps=2000),
        "stiffness",
        "stability limits its steps",
        lambda r: robertson(re.search("method='(\\w+)'", r.remedy)[1]),
    ),
    "the same by its evaluations": (
        lambda: robertson("dp5", max_nfe=5000),
        "stiffness",
        "Tsit5 is explicit|DP5 is explicit",
        lambda r: robertson(re.search("method='(\\w+)'", r.remedy)[1]),
    ),
    "blow-up": (
        lambda: solve(square, tensor(1.0), [0.0, 3.0]),
        "blow-up",
        r"y\[0\].*infinite at t = 1\.",
        lambda r: solve(
            square, tensor(1.0), [0.0, number("before t = ([\\d.]+)", r.remedy) * 0.999]
        ),
    ),
    "blow-up of one row": (
        lambda: rows(3.0),
        "blow-up",
        "infinite at t = 1",
        lambda r: rows(number("before t = ([\\d.]+)", r.remedy) * 0.999),
    ),
    "a relay that chatters": (
        lambda: solve(relay, tensor(1.0), [0.0, 3.0], method="tsit5", max_steps=300),
        "jump of f in the state",
        "component 0 by 2",
        lambda r: solve(
            lambda t, y: -torch.tanh(y / 1e-3),
            tensor(1.0),
            [0.0, 3.0],
            method="fbdf",
            max_steps=300,
        ),
    ),
    "the root of a state that a trial step makes negative": (
        lambda: solve(root, tensor(1.0), [0.0, 3.0]),
        "negative state",
        r"y\[0\] negative",
        lambda r: solve(lambda t, y: root(t, y.clamp(min=0)), tensor(1.0), [0.0, 3.0]),
    ),
    "NaN in an argument": (
        lambda: solve(
            lambda t, y, k: -k * y, tensor(1.0), [0.0, 1.0], args=(tensor(float("nan")),)
        ),
        "nonfinite parameters",
        r"args\[0\]",
        lambda r: solve(lambda t, y, k: -k * y, tensor(1.0), [0.0, 1.0], args=(tensor(2.0),)),
    ),
    "a wrong jac": (
        lambda: solve(
            stiff,
            tensor(1.0, 2.0),
            [1.0, 2.0],
            method="fbdf",
            first_step=0.1,
            jac=lambda t, y: torch.zeros(2, 2),
        ),
        "wrong jac",
        r"entry \(0, 0\) is 0, the derivative -1e\+20",
        lambda r: solve(stiff, tensor(1.0, 2.0), [1.0, 2.0], method="fbdf", first_step=0.1),
    ),
    "a jac of NaN": (
        lambda: solve(
            square,
            tensor(1.0),
            [0.0, 0.5],
            method="rodas5p",
            jac=lambda t, y: torch.full((1, 1), torch.nan),
        ),
        "nonfinite jac",
        "jac returns is not",
        lambda r: solve(square, tensor(1.0), [0.0, 0.5], method="rodas5p"),
    ),
    "a division by zero at the start": (
        lambda: solve(lambda t, y: 1 / y, tensor(0.0), [0.0, 1.0]),
        "nonfinite f",
        "at the last good state itself",
        lambda r: solve(lambda t, y: 1 / y, tensor(1e-3), [0.0, 1.0]),
    ),
    "f that ends at a time": (
        lambda: solve(ends, tensor(1.0), [0.0, 2.0], method="tsit5"),
        "f not finite from a time on",
        "from t = 1 on|from t = 0.99",
        lambda r: solve(
            ends,
            tensor(1.0),
            [0.0, number("before t = ([\\d.]+)", r.remedy) - 1e-6],
            method="tsit5",
        ),
    ),
    "the derivative of a root at zero": (
        # Compiled steps do not replace an infinite derivative by differences.
        lambda: solve(
            RootLessState(), tensor(0.0, 1.0), [0.0, 1.0], method=Rodas5P(compile="eager")
        ),
        "nonfinite derivative",
        r"respect to y\[0\] = 0",
        lambda r: solve(
            lambda t, y: torch.sqrt(y + 1e-12) - y, tensor(0.0, 1.0), [0.0, 1.0], method="rodas5p"
        ),
    ),
    "f that leaves the graph": (
        lambda: solve(detached, tensor(2.0), [0.0, 1.0], method="qndf", max_steps=2000),
        "f is not differentiable by autograd",
        (
            r"autograd gives is not that of f: of component 0 with respect to y\[0\] it is -1,"
            r" differences give -1e\+06"
        ),
        lambda r: solve(
            lambda t, y: -1e6 * (y - torch.cos(t)) - y,
            tensor(2.0),
            [0.0, 1.0],
            method="qndf",
            max_steps=2000,
        ),
    ),
    "a state that must become negative": (
        lambda: solve(lambda t, y: -torch.ones_like(y), tensor(1.0), [0.0, 2.0], nonnegative=True),
        "the solution leaves the domain",
        "dy/dt = -1",
        lambda r: solve(lambda t, y: -torch.ones_like(y), tensor(1.0), [0.0, 2.0]),
    ),
    "a ball that comes to rest": (
        lambda: ball(3.0),
        "events pile up",
        "faster and faster",
        lambda r: ball(number("before t = ([\\d.]+)", r.remedy) - 1e-3),
    ),
    "fixed steps that are too long": (
        lambda: fixed(0.1),
        "steps too long",
        "about 100 at the start, 10 over a step",
        lambda r: fixed(number("step_size=([\\d.e-]+)", r.remedy)),
    ),
    "min_step": (
        lambda: shaken(min_step=1e-2),
        "min_step",
        "asks for steps",
        lambda r: shaken(min_step=number("min_step to ([\\d.e-]+)", r.remedy)),
    ),
    "too few steps for the accuracy": (
        lambda: oscillator(max_steps=100),
        "max_steps",
        "more such steps are needed",
        lambda r: oscillator(max_steps=int(100 * number("by a factor of ([\\d.]+)", r.remedy))),
    ),
    "too little time": (
        lambda: slow(0.03),
        "max_seconds",
        "more such steps are needed",
        lambda r: slow(0.03 * 20 * number("by a factor of ([\\d.]+)", r.remedy)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_named_and_the_remedy_works(name):
    fails, cause, says, follow = CASES[name]
    with pytest.raises(SolveError) as caught:
        fails()
    report = caught.value.report()
    assert report.cause == cause, str(report)
    assert re.search(says, report.finding), report.finding
    assert follow(report).success


def test_weights_that_an_optimiser_made_nan():
    torch.manual_seed(0)
    model = NeuralODE(torch.nn.Linear(2, 2).double(), method="tsit5")
    good = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    (model(tensor(1.0, 2.0)) / 0 * 0).sum().backward()
    optimizer.step()
    with pytest.raises(SolveError) as caught:
        model(tensor(1.0, 2.0))
    report = caught.value.report()
    assert (
        report.cause == "nonfinite parameters"
        and "weight holds NaN or infinity in 4 of its 4 entries" in report.finding
    )
    assert "last good weights" in report.remedy
    model.load_state_dict(good)
    assert torch.isfinite(model(tensor(1.0, 2.0))).all()


def test_the_page():
    """Text for people, the same as plain data for programs, and the work of looking is not
    counted."""
    solution = solve(
        ROBERTSON.field, ROBERTSON.y0, ROBERTSON.tspan, method="tsit5", max_steps=500, throw=False
    )
    before = solution.stats.as_dict()
    report = solution.report()
    assert solution.stats.as_dict() == before
    page = str(report)
    for part in (
        "Reached t = ",
        "1 of 2 outputs",
        "Cause: stiffness",
        "What to do next",
        "The last steps tried",
        "B  ",
    ):
        assert part in page
    assert page.count("\n") < 50 and max(map(len, page.splitlines())) <= 130
    plain = json.loads(json.dumps(report.as_dict()))
    assert (
        plain["cause"] == "stiffness"
        and plain["status"] == "MAX_STEPS"
        and plain["shares"][0]["component"] == "B"
    )
    assert len(plain["attempts"]) == 32 and plain["attempts"][-1]["accepted"] in (True, False)


def test_components_have_the_names_of_the_state():
    def f(t, state):
        return {"mass": state["mass"] ** 2, "rest": (0 * state["rest"][0],)}

    with pytest.raises(SolveError) as caught:
        solve(f, {"mass": tensor(0.5, 1.0).reshape(1, 2), "rest": (tensor(1.0),)}, [0.0, 3.0])
    assert "y['mass'][0, 1]" in caught.value.report().finding


def test_newtons_corrections_are_shown():
    with pytest.raises(SolveError) as caught:
        solve(
            stiff,
            tensor(1.0, 2.0),
            [1.0, 2.0],
            method="fbdf",
            first_step=0.1,
            jac=lambda t, y: torch.zeros(2, 2),
        )
    report = caught.value.report()
    assert report.newton and "Newton's corrections" in str(report)


def test_nothing_to_report():
    solution = solve(square, tensor(0.1), [0.0, 1.0])
    with pytest.raises(ValueError, match="did not fail"):
        solution.report()
    with pytest.raises(ValueError, match="row 0 did not fail; those that did: none"):
        rows(0.5).report()
