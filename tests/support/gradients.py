"""Gradients of solves and of models, and comparisons of them."""

import torch

from pynode import solve

# Where the default of `assert_same` would take a method of low order too many steps.
RTOL = {"Euler": 1e-2, "Heun": 1e-3, "Midpoint": 1e-3}


def flatten(state):
    """(T, n) of outputs of any structure."""
    if isinstance(state, torch.Tensor):
        return state.reshape(len(state), -1)
    parts = state.values() if isinstance(state, dict) else state
    return torch.cat([flatten(part) for part in parts], dim=1)


def weighted_gradients(inputs, f, y0, t, adjoint, **options):
    """Gradients of a fixed random weighting of all outputs, None for inputs without one; the
    solution too."""
    solution = solve(f, y0, t, adjoint=adjoint, **options)
    ys = flatten(solution.y)
    weights = torch.randn(
        ys.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).to(ys)
    return torch.autograd.grad((weights * ys).sum(), inputs, allow_unused=True), solution


def gradients(inputs, adjoint, f, y0, t, method, **options):
    """The gradients of `weighted_gradients` at loose tolerances."""
    options = {"rtol": RTOL.get(method, 1e-4), "atol": 1e-6, **options}
    return weighted_gradients(inputs, f, y0, t, adjoint, method=method, **options)[0]


def distance(found, expected):
    """Largest difference relative to the largest entry of each gradient."""
    return max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True)
    )


def assert_same(inputs, *problem, tolerance=1e-12, **options):
    """The discrete adjoint and "direct" agree relative to the largest entry of each gradient, and
    no gradient is zero throughout.

    One that is small because its terms cancel is measured against a tenth of the largest of all.
    """
    found = gradients(inputs, "discrete", *problem, **options)
    expected = gradients(inputs, "direct", *problem, **options)
    largest = max(float(b.abs().max()) for b in expected)
    for a, b in zip(found, expected, strict=True):
        assert b.abs().max() > 0
        assert (a - b).abs().max() <= tolerance * max(float(b.abs().max()), 0.1 * largest)
    return found


def model_gradients(model, y0, ask=None):
    """{name: gradient} of a loss of model(y0), or of ask(model, y0)."""
    model.zero_grad()
    y = model(y0) if ask is None else ask(model, y0)
    y.square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def agree(found, wanted, tolerance=1e-10, vanishing=()):
    """Gradients, one, in lists or by name, differ by no more than tolerance times the largest entry
    of each. None is zero throughout, except those whose name ends with `vanishing`."""
    if isinstance(wanted, torch.Tensor):
        found = [found]
        wanted = [wanted]
    if not isinstance(wanted, dict):
        found = dict(enumerate(found))
        wanted = dict(enumerate(wanted))
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        largest = float(gradient.abs().max())
        assert largest > 0 or str(name).endswith(vanishing), name
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=tolerance * largest)


def as_function(f, method, **options):
    """The outputs as a function of y0, the times and the parameters of f."""

    def run(y0, t, *parameters):
        def field(s, y):
            return torch.func.functional_call(f, dict(zip(names, parameters, strict=True)), (s, y))

        return solve(field, y0, t, method=method, params=parameters, **options).y

    names = [name for name, _ in f.named_parameters()]
    return run
