"""The learned-looking vector fields that the benchmarks share."""

import torch
from torch import nn


class MLP(nn.Module):
    """dy/dt = W3 tanh(W2 tanh(W1 y)) with seeded weights, 3-50-50-3 by default. y: (..., 3)."""

    def __init__(self, hidden: int = 50, gain: float = 2.0, dtype=torch.float64):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.layers = nn.Sequential(
            nn.Linear(3, hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, 3),
        ).to(dtype)
        with torch.no_grad():
            for layer in self.layers[::2]:
                width = layer.in_features**-0.5
                layer.weight.copy_(
                    gain * width * torch.randn(layer.weight.shape, generator=generator, dtype=dtype)
                )
                layer.bias.copy_(
                    0.3 * torch.randn(layer.bias.shape, generator=generator, dtype=dtype)
                )

    def forward(self, t, y):
        return self.layers(y)


class StiffMLP(MLP):
    """The same with a linear decay of rates 1, 30 and 1000 beside it: a stiff field with the cost
    of a network."""

    def __init__(self, hidden: int = 50, dtype=torch.float64):
        super().__init__(hidden, 2.0, dtype)
        self.rates = nn.Parameter(torch.tensor([1.0, 30.0, 1000.0], dtype=dtype))

    def forward(self, t, y):
        return self.rates * (self.layers(y) - y)


def start(batch: int = 1, dtype=torch.float64):
    """(3,) start, or (batch, 3) of them."""
    generator = torch.Generator().manual_seed(2)
    y0 = 0.5 * torch.randn(batch, 3, generator=generator, dtype=dtype)
    return y0[0] if batch == 1 else y0


class Boehm(nn.Module):
    """Phosphorylated STAT5A and STAT5B pair in the cytoplasm, move into the nucleus and return; the
    input decays.

    y: (..., 8) concentrations of STAT5A, STAT5B, pApB, pApA, pBpB in the cytoplasm and of the three
    pairs in the nucleus; t in minutes; k: (6,) constants, as fitted in the collection of
    Hass et al., Bioinformatics 35, 2019, 3073-3082. Boehm et al., J. Proteome Res. 13, 2014,
    5685-5694.
    """

    nominal = {
        "decay": 0.026982514033029,
        "export_hetero": 1.00067973851508e-5,
        "export_homo": 0.006170228086381,
        "import_hetero": 0.0163679184468,
        "import_homo": 97749.3794024716,
        "phosphorylation": 15766.5070195731,
    }
    # Volumes; concentrations at the start.
    cytoplasm, nucleus, input, total, ratio = 1.4, 0.45, 1.25e-7, 207.6, 0.693
    times = (
        2.5,
        5.0,
        10.0,
        15.0,
        20.0,
        30.0,
        40.0,
        50.0,
        60.0,
        80.0,
        100.0,
        120.0,
        160.0,
        200.0,
        240.0,
    )

    def __init__(self):
        super().__init__()
        self.k = nn.Parameter(torch.tensor(list(self.nominal.values()), dtype=torch.float64))

    def start(self):
        """(8,) at t = 0."""
        y0 = torch.zeros(8, dtype=torch.float64)
        y0[0], y0[1] = self.total * self.ratio, self.total * (1 - self.ratio)
        return y0

    def forward(self, t, y):
        decay, out_hetero, out_homo, in_hetero, in_homo, phosphorylation = self.k.unbind()
        a, b, ab, aa, bb, nuclear_aa, nuclear_ab, nuclear_bb = y.unbind(-1)
        rate = self.input * torch.exp(-decay * t) * phosphorylation
        make_aa, make_ab, make_bb = rate * a * a, rate * a * b, rate * b * b
        wider, narrower = self.nucleus / self.cytoplasm, self.cytoplasm / self.nucleus
        out_aa, out_ab, out_bb = (
            out_homo * nuclear_aa,
            out_hetero * nuclear_ab,
            out_homo * nuclear_bb,
        )
        in_aa, in_ab, in_bb = in_homo * aa, in_hetero * ab, in_homo * bb
        return torch.stack(
            (
                -2 * make_aa - make_ab + wider * (2 * out_aa + out_ab),
                -2 * make_bb - make_ab + wider * (2 * out_bb + out_ab),
                make_ab - in_ab,
                make_aa - in_aa,
                make_bb - in_bb,
                narrower * in_aa - out_aa,
                narrower * in_ab - out_ab,
                narrower * in_bb - out_bb,
            ),
            -1,
        )
