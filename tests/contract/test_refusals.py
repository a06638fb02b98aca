"""Each feature works on an engine, or the engine refuses it with a sentence.

``refuses`` in support/engines.py is the table. A feature that an engine learns must leave it.
"""

import pytest
import torch

from pynode import DiscreteAdjoint, Sparse
from pynode.methods import Rodas5P
from tests.support.cases import leaf, tensor
from tests.support.engines import ENGINES, Julia

FEATURES = {
    "callback": {"callback": lambda t, y, stats: False},
    "max_seconds": {"max_seconds": 100.0},
    "nonnegative": {"nonnegative": True},
    "domain": {"domain": lambda t, y: True},
    "dense": {"dense": True},
    "jac": {"jac": lambda t, y: -torch.eye(2, dtype=torch.float64)},
    "mass": {"mass": torch.eye(2, dtype=torch.float64)},
    "structure": {"method": Rodas5P(jacobian=Sparse())},
    "direct": {"adjoint": "direct"},
    "checkpoints": {"adjoint": DiscreteAdjoint(checkpoints=2)},
    "controller": {"method": Rodas5P(controller="I")},
    "step_size": {"step_size": 0.25},
    "min_step": {"min_step": 1e-9},
    "tstops": {"tstops": [0.5]},
    "jumps": {"jumps": [0.5]},
    "params": {"params": []},
}


@pytest.mark.parametrize(
    "feature", [pytest.param(name, marks=pytest.mark.uses(name)) for name in FEATURES]
)
def test_a_feature_works_or_is_refused(engine, feature):
    y0 = leaf(tensor(1.0, 2.0))
    if feature == "mass" and isinstance(engine, Julia):
        y0 = y0.detach()  # its gradient is refused apart, tests/backends/julia
    options = {"method": "Rodas5P", **FEATURES[feature]}
    found = engine.solve(lambda t, y: -y, y0, [0.0, 1.0], **options)
    assert torch.allclose(found.y[-1], y0 * 0.36787944, rtol=1e-3)


def test_the_table_names_features_that_are_tried():
    known = {*FEATURES, "RejectStep", "python"}
    assert all(set(engine.refuses) <= known for engine in ENGINES.values())
