"""Recognition networks of latent models: from irregular observations to a Gaussian of the initial
latent state."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.distributions import Independent, Normal

from .base import Autonomous, SolveModule, as_field

KINDS = ("gru", "ode-rnn")


class Recognition(torch.nn.Module):
    """q(z(t_0) | observations), a Gaussian with independent components, from a recurrent network
    that reads the observations backwards in time.

    kind: 'gru' gets the time to the previous observation as an input (Chen, Rubanova, Bettencourt &
        Duvenaud, NeurIPS 2018, sec. 5). In 'ode-rnn' the hidden state h follows dh/ds = field(h)
        over this time, with one solve for each observation (Rubanova, Chen & Duvenaud, NeurIPS
        2019, algorithm 1).
    data_dim, latent_dim, hidden: of x, z and h.
    field: for 'ode-rnn', nn.Module with forward(h). None: a network with one hidden layer of 2
        hidden units.
    options: of ``solve``, for 'ode-rnn'.
    """

    def __init__(
        self,
        kind: Literal["gru", "ode-rnn"],
        data_dim: int,
        latent_dim: int,
        hidden: int,
        field: torch.nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"encoder must be one of {', '.join(KINDS)}, not {kind!r}")
        if field is not None and kind != "ode-rnn":
            raise ValueError(
                "encoder_field is only for encoder='ode-rnn': choose that, or remove encoder_field"
            )
        self.kind = kind
        self.cell = torch.nn.GRUCell(2 * data_dim + (kind == "gru"), hidden)
        self.head = torch.nn.Sequential(
            torch.nn.Linear(hidden, hidden),
            torch.nn.Tanh(),
            torch.nn.Linear(hidden, 2 * latent_dim),
        )
        self.paced = None
        if kind == "ode-rnn":
            layers = (
                torch.nn.Linear(hidden, 2 * hidden),
                torch.nn.Tanh(),
                torch.nn.Linear(2 * hidden, hidden),
            )
            self.paced = _Between(
                torch.nn.Sequential(*layers) if field is None else as_field(field, "encoder_field"),
                options,
            )

    def forward(self, x: torch.Tensor, seen: torch.Tensor, gaps: torch.Tensor) -> Independent:
        """q, with batch shape (B,).

        x: (B, T, data_dim), zero where not seen.
        seen: bool, in the shape of x.
        gaps: (B, T), the time from each observation to the previous one; for the first to t_0. Zero
            where nothing is seen.
        """
        inputs = torch.cat((x, seen.to(x), gaps.unsqueeze(-1)), -1)[..., : self.cell.input_size]
        anything = seen.any(-1, keepdim=True)
        h = x.new_zeros(len(x), self.cell.hidden_size)
        for i in reversed(range(x.shape[1])):
            h = torch.where(anything[:, i], self.cell(inputs[:, i], h), h)
            if self.paced is not None:
                h = self.paced(h, gaps[:, i : i + 1])
        mean, width = self.head(h).chunk(2, -1)
        return Independent(Normal(mean, torch.nn.functional.softplus(width) + 1e-5), 1)


class _Between(SolveModule):
    """The hidden state h, (B, hidden), after the gap of its row, (B, 1)."""

    def forward(self, h: torch.Tensor, gap: torch.Tensor) -> torch.Tensor:
        return self._solved(self._wrapped(_Paced, self.field), h, (0.0, 1.0), (gap,))[-1]


class _Paced(Autonomous):
    """dh/ds = gap field(h): while s goes from 0 to 1, each row passes its own gap."""

    def forward(self, s: torch.Tensor, h: torch.Tensor, gap: torch.Tensor) -> torch.Tensor:
        return gap * self.field(h)
