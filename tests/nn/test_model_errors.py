"""What users get wrong with models: every argument of another type, shape or dtype meets a
sentence, early where it can."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from pynode import Event
from pynode.nn import CNF, AugmentedODE, KineticEnergy, NeuralODE

Y = torch.zeros(3, 2)
CLASSES = {
    "NeuralODE": lambda t=(0.0, 1.0), **options: NeuralODE(nn.Linear(2, 2), t, **options),
    "AugmentedODE": lambda t=(0.0, 1.0), **options: AugmentedODE(nn.Linear(3, 3), 1, t, **options),
    "CNF": lambda t=(0.0, 1.0), **options: CNF(nn.Linear(2, 2), 2, t, **options),
}
every_class = pytest.mark.parametrize("make", CLASSES.values(), ids=CLASSES)

# Arguments, error, sentence: told when the model is made.
MADE = {
    "one time": ({"t": [0.0]}, ValueError, "at least two times"),
    "no times": ({"t": []}, ValueError, "at least two times"),
    "a number for times": ({"t": 1.0}, TypeError, "t must be a sequence of numbers"),
    "None for times": ({"t": None}, TypeError, "t must be a sequence of numbers"),
    "words for times": ({"t": ("now", "then")}, TypeError, "t must be a sequence of numbers"),
    "equal times": ({"t": (1.0, 1.0)}, ValueError, "strictly increasing or strictly decreasing"),
    "NaN among the times": (
        {"t": (0.0, float("nan"))},
        ValueError,
        "not finite; give finite times",
    ),
    "a matrix of times": ({"t": torch.zeros(2, 2)}, ValueError, "one-dimensional"),
    "complex times": ({"t": torch.tensor([0.0, 1j])}, TypeError, "times are real"),
    "a misspelt option": ({"rtoll": 1e-3}, TypeError, "rtoll is no option.*did you mean rtol"),
    "an argument that is the model's": (
        {"y0": Y},
        TypeError,
        "y0 is no option.*choose from method, rtol",
    ),
    "last_only in words": (
        {"last_only": "yes"},
        TypeError,
        "last_only must be True, False or None",
    ),
}


@pytest.mark.parametrize("case", MADE)
@every_class
def test_arguments_of_every_model(make, case):
    arguments, error, sentence = MADE[case]
    with pytest.raises(error, match=sentence):
        make(**arguments)


STATES = {
    "integers": (torch.ones(3, 2, dtype=torch.int64), TypeError, r"torch.int64.*use y0.double\(\)"),
    "complex": (torch.ones(3, 2, dtype=torch.complex64), TypeError, "must be real"),
    "nothing": (None, TypeError, "must be a tensor.*not NoneType"),
    "a tensor and a number": ([torch.ones(1), 2.0], TypeError, "must be a tensor"),
    "NaN": (Y + float("nan"), ValueError, "y0 is not finite"),
    "an empty batch": (torch.zeros(0, 2), ValueError, "y0 is empty"),
    "another dtype": (
        Y.double(),
        TypeError,
        r"float64.*parameters of torch.float32.*module.to\(torch.float64\)",
    ),
    "without values": (Y.to("meta"), TypeError, "meta device"),
    "sparse": (Y.to_sparse(), (TypeError, NotImplementedError), "to_dense|sparse"),
}


@pytest.mark.parametrize("case", STATES)
@every_class
def test_inputs_of_every_model(make, case):
    y0, error, sentence = STATES[case]
    with pytest.raises(error, match=sentence):
        make()(y0)


@every_class
def test_times_of_a_call(make):
    for t, sentence in (
        ([0.0], "at least two"),
        (1.0, "sequence of numbers"),
        ([0.0, 1.0, 0.5], "strictly increasing"),
    ):
        with pytest.raises((TypeError, ValueError), match=sentence):
            make()(Y, t)


FIELDS = {
    "a function": (lambda t, y: y, "nn.Module"),
    "a class": (nn.Identity, "nn.Module"),
    "no forward": (nn.Module(), "has no forward"),
    "a list of layers": (nn.ModuleList([nn.Linear(2, 2)]), "ModuleList, has no forward"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_fields(case):
    field, sentence = FIELDS[case]
    with pytest.raises(TypeError, match=sentence):
        NeuralODE(field)


AUGMENTED = {
    "no dimension": ({"augment_dims": 0}, ValueError, "at least 1.*use NeuralODE"),
    "a negative number": ({"augment_dims": -1}, ValueError, "at least 1"),
    "half a dimension": ({"augment_dims": 1.5}, TypeError, "an integer, not float"),
    "True": ({"augment_dims": True}, TypeError, "an integer, not bool"),
    "a named dimension": ({"augment_dims": 1, "dim": "c"}, TypeError, "dim must be an integer"),
}


@pytest.mark.parametrize("case", AUGMENTED)
def test_augmentations(case):
    arguments, error, sentence = AUGMENTED[case]
    with pytest.raises(error, match=sentence):
        AugmentedODE(nn.Linear(3, 3), **arguments)


@pytest.mark.parametrize("dim, y0", [(2, Y), (-3, Y), (-1, torch.tensor(1.0))])
def test_an_augmented_dimension_that_is_not_there(dim, y0):
    with pytest.raises(
        ValueError, match=f"dim = {dim} is no dimension of an input.*choose dim, or unsqueeze"
    ):
        AugmentedODE(nn.Linear(3, 3), 1, dim=dim)(y0)


DENSITIES = {
    "no dimension": ({"dim": 0}, ValueError, "an integer of at least 1"),
    "half a dimension": ({"dim": 1.5}, ValueError, "an integer of at least 1"),
    "three times": ({"t": (0.0, 0.5, 1.0)}, ValueError, "not 3 times"),
    "an unknown trace": ({"trace": "hutch"}, ValueError, "trace must be one of exact, hutchinson"),
    "an unknown noise": (
        {"noise": "uniform"},
        ValueError,
        "noise must be one of rademacher, gaussian",
    ),
    "a base by name": ({"base": "normal"}, TypeError, "must be a torch.distributions.Distribution"),
    "a base by component": (
        {"base": Normal(torch.zeros(2), 1.0)},
        ValueError,
        r"Independent\(base, 1\)",
    ),
    "a base of another size": (
        {"base": Independent(Normal(torch.zeros(3), 1.0), 1)},
        ValueError,
        r"\(3,\).*\(2,\)",
    ),
    "many bases": (
        {"base": Independent(Normal(torch.zeros(4, 2), 1.0), 1)},
        ValueError,
        r"\(4,\) densities, but CNF needs one",
    ),
}


@pytest.mark.parametrize("case", DENSITIES)
def test_densities(case):
    arguments, error, sentence = DENSITIES[case]
    with pytest.raises(error, match=sentence):
        CNF(nn.Linear(2, 2), **{"dim": 2, **arguments})


@pytest.mark.parametrize("ask", ["log_prob", "inverse", "__call__"])
def test_points_of_a_density(ask):
    model = CLASSES["CNF"]()
    for points, error in (
        (torch.zeros(3, 3), ValueError),
        (torch.tensor(1.0), ValueError),
        ([1.0, 2.0], TypeError),
    ):
        with pytest.raises(error, match=r"points (of shape|must be a tensor).*2\)"):
            getattr(model, ask)(points)


@pytest.mark.parametrize(
    "name, option",
    [
        ("jac", lambda t, y: torch.eye(2)),
        ("mass", torch.eye(2)),
        ("events", Event(lambda t, y: y[0, 0] - 1)),
        ("domain", lambda t, y: bool((y > -1).all())),
    ],
)
def test_options_that_see_only_the_state(name, option):
    """The integrals of the trace and of regularisers are solved together with the state."""
    options = {"method": "rodas5p", name: option}
    with pytest.raises(ValueError, match=f"{name} would get y only.*remove it"):
        CLASSES["CNF"](**options).log_prob(Y)
    with pytest.raises(ValueError, match=f"{name} would get y only"):
        CLASSES["NeuralODE"](regularisers=KineticEnergy(), **options)(Y)


@pytest.mark.parametrize("n", [0, -1, 2.0, None, True])
def test_how_many_points_are_drawn(n):
    with pytest.raises(ValueError, match="an integer of at least 1"):
        CLASSES["CNF"]().sample(n)
