"""Terms of a vector field whose tensors are those of modules, as those of random_terms.py."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from tests.support.random_terms import effect


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


class Weighted(nn.Module):
    """A term with a tensor p, registered or not as ``put`` does it."""

    def __init__(self, put):
        super().__init__()
        put(self)

    def forward(self, t, y, args=()):
        return effect(self.p, t, y)


class Linear(nn.Module):
    """tanh of a linear map whose weight and bias are leaves of the case."""

    def __init__(self, b, name):
        super().__init__()
        self.map = nn.Linear(b.n, b.n, dtype=torch.float64)
        for key in ("weight", "bias"):
            shape = getattr(self.map, key).shape
            setattr(self.map, key, b.parameter(f"{name}: {key}", shape))

    def forward(self, t, y, args=()):
        return torch.tanh(self.map(y) + torch.sin(t))


def closure_modules(b):
    nets = [Linear(b, "list of modules in a closure")]
    return lambda t, y, args: nets[0](t, y)


def closure_module(b):
    net = Linear(b, "module in a closure")
    return lambda t, y, args: net(t, y)


def switched_modules(b):
    nets, when = nn.ModuleList([Linear(b, "first module"), Linear(b, "second module")]), b.when()
    if b.rows:
        return lambda t, y, args: torch.where(t < when, nets[0](t, y), nets[1](t, y))
    return lambda t, y, args: nets[int(float(t.detach()) >= when)](t, y)


def parameter(b):
    return Weighted(lambda m: setattr(m, "p", b.parameter("parameter")))


def linear(b):
    return Linear(b, "linear")


def buffer(b):
    return Weighted(lambda m: m.register_buffer("p", b.leaf("buffer that requires a gradient")))


def buffer_computed(b):
    return Weighted(lambda m: m.register_buffer("p", 0.5 * torch.exp(b.leaf("buffer, computed"))))


def buffer_constant(b):
    """A buffer without a gradient scales a parameter."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("c", b.constant())
            self.p = b.parameter("parameter beside a buffer")

        def forward(self, t, y, args=()):
            return effect(self.c * self.p, t, y)

    return Scaled()


def frozen(b):
    """A parameter that requires no gradient beside one that does."""

    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Parameter(b.constant(), requires_grad=False)
            self.p = b.parameter("parameter beside a frozen one")

        def forward(self, t, y, args=()):
            return effect(self.p, t, y) + effect(self.c, 2 * t, y)

    return Half()


def unregistered(b):
    """A list, and an attribute of an attribute, in a module that has a parameter too."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = b.parameter("parameter beside hidden tensors")
            self.hidden = [b.leaf("list in a module")]
            self.space = SimpleNamespace(p=b.leaf("attribute of an attribute of a module"))

        def forward(self, t, y, args=()):
            return self.w * (effect(self.hidden[0], t, y) + effect(self.space.p, 2 * t, y))

    return Mixed()


def tensor_attribute(b):
    return Weighted(lambda m: setattr(m, "p", b.leaf("tensor attribute of a module")))


def hidden_modules(b):
    class Hiding(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = {"net": [Linear(b, "module in a dict of a module")]}

        def forward(self, t, y, args=()):
            return self.parts["net"][0](t, y)

    return Hiding()


def parameter_containers(b):
    class Containers(nn.Module):
        def __init__(self):
            super().__init__()
            self.ps = nn.ParameterList([b.parameter("ParameterList")])
            self.pd = nn.ParameterDict({"q": b.parameter("ParameterDict")})

        def forward(self, t, y, args=()):
            return effect(self.ps[0], t, y) + effect(self.pd["q"], 2 * t, y)

    return Containers()


def parametrized(b):
    net = Linear(b, "parametrized")
    old = net.map.weight
    parametrize.register_parametrization(net.map, "weight", Halved())
    b.instead(old, parametrized_weight=net.map.parametrizations.weight.original)
    return net


def weight_norm(b):
    net = Linear(b, "weight norm")
    old = net.map.weight
    parametrizations.weight_norm(net.map)
    parts = net.map.parametrizations.weight
    b.instead(old, weight_norm_size=parts.original0, weight_norm_direction=parts.original1)
    return net


def tied(b):
    """Two modules share one weight."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = Linear(b, "tied"), Linear(b, "tied, second")
            b.instead(self.two.map.weight)
            self.two.map.weight = self.one.map.weight

        def forward(self, t, y, args=()):
            return self.two(t, self.one(t, y))

    return Tied()


def functional_call(b):
    """A module that gets a computed weight for the time of each call."""
    net = Linear(b, "replaced")
    b.instead(net.map.weight)
    weight = torch.tanh(b.leaf("weight for functional_call", (b.n, b.n)))
    return lambda t, y, args: torch.func.functional_call(net, {"map.weight": weight}, (t, y))
