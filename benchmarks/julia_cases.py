"""The gradients of benchmarks.julia."""

from benchmarks.case import Case, Gradient

import torch  # isort: skip

from benchmarks.problems import PROBLEMS
from pynode import problems, solve
from pynode.problems.base import Problem
from pynode.train.model import build
from pynode.train.scaling import Scaling
from pynode.train.synthetic import observe
from pynode.train.times import log_times
from pynode.train.warmstart import warm_start

OUTPUTS = 20
RTOL = 1e-6
WARM_START = 300  # iterations


def network_gradient() -> Gradient:
    """A 3-32-3 network with the scaling, the gates and the warm start of `pynode train`, on
    Robertson's data, with 20 outputs from 1e-5 to 1e5 s."""
    data = observe(problems.get("robertson"), log_times(1e-5, 1e5, OUTPUTS))
    scaling = Scaling.of(data, "decades")
    run = data.trajectories[0]
    model = build(
        {"hidden": [32], "activation": "tanh", "time_input": False},
        scaling,
        torch.Generator().manual_seed(0),
    )
    warm_start([model], data, WARM_START)
    times = run.t.tolist()
    y0 = scaling.scaled(run.y)[0]
    problem = Problem("robertson network", model, y0, (times[0], times[-1]), RTOL, 1e-9, True, "")
    with torch.no_grad():
        reference = solve(model, y0, times, method="radauiia9", rtol=1e-10, atol=1e-13).y[1:]
    return Gradient(problem.name, Case(problem, RTOL, times, reference.numpy()))


def pollution_gradient() -> Gradient:
    """The pollution problem, with its 25 constants. Its loss is the mean square of the
    concentrations themselves: relative ones, of 4e-18 to 0.3, have cotangents too far apart for the
    one atol of Julia's reverse solve."""
    case = PROBLEMS["pollution"].case(RTOL)
    return Gradient("pollution", case, [1.0] * len(case.largest))
