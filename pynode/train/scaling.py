"""How a stiff system is scaled before it is learned.

S. Kim, W. Ji, S. Deng, Y. Ma, C. Rackauckas, Stiff neural ordinary differential equations, Chaos
31, 093122 (2021): each state is divided by its range over the observed span, the network's outputs
are multiplied by y_scale / t_scale, and the loss uses the scaled states. They have one t_scale, the
time span. A network must then return outputs of 1e8 for the transient of Robertson's second species
and of 1e-2 for its tail. ``decades``, the default, therefore gives each state its own t_scale: the
time that its range would take at the fastest observed rate. The network also gets a second output
for each state, a gate that lowers the rate over as many decades as the data need. ``kim`` is the
scaling of the paper.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ..core.constants import Constants, valued
from ..core.protocols import Times
from ..data import Dataset, Trajectory
from ..models.inputs import InputTable
from ..problems import Problem
from .balance import Balance
from .inputs import Inputs
from .laws import Known, Laws
from .moves import Moves
from .warp import Warp

KINDS = ("decades", "kim")
# A gate is sigmoid(SLOPE x + OFFSET): two units of network output change it by four decades. It
# starts nearly open.
SLOPE = 5.0
OFFSET = 2.0


@dataclass(frozen=True)
class Scaling:
    """How to scale n states and the time, as plain numbers.

    kind: 'decades' or 'kim'.
    y_min, y_scale: n numbers in the units of y.
    t_scale: n numbers in the unit of t.
    t_start, t_span: the first time and the longest duration of the trajectories, in the unit of t.
    inputs: exogenous inputs u(t), None without any.
    warp: the coordinates z(y) in whose units y_min and y_scale are; None for those of the data.
    """

    kind: str
    y_min: tuple[float, ...]
    y_scale: tuple[float, ...]
    t_scale: tuple[float, ...]
    t_start: float
    t_span: float
    inputs: Inputs | None = None
    warp: Warp | None = None

    @classmethod
    def of(cls, data: Dataset, kind: str = "decades") -> Scaling:
        """The scaling of a data set. A constant state is scaled by its magnitude. Raises ValueError
        for an unknown kind."""
        if kind not in KINDS:
            raise ValueError(f"unknown scaling {kind!r}: choose one of {', '.join(KINDS)}")
        low = []
        high = []
        fastest = []
        for i in range(len(data.columns)):
            states = []
            rates = []
            for run in data.trajectories:
                t = run.t[run.seen[:, i]]
                y = run.y[:, i][run.seen[:, i]]
                states.append(y)
                rates.append((y.diff() / t.diff()).abs())
            values = torch.cat(states)
            low.append(float(values.min()))
            high.append(float(values.max()))
            fastest.append(float(torch.cat(rates).max()))
        span = max(float(run.t[-1] - run.t[0]) for run in data.trajectories)
        scale = [b - a if b > a else abs(b) or 1.0 for a, b in zip(low, high, strict=True)]
        own = [
            s / r if kind == "decades" and r > 0 else span
            for s, r in zip(scale, fastest, strict=True)
        ]
        start = min(float(run.t[0]) for run in data.trajectories)
        inputs = Inputs.of(data)
        return cls(kind, tuple(low), tuple(scale), tuple(own), start, span, inputs)

    def scaled(self, y: torch.Tensor) -> torch.Tensor:
        """(y - y_min) / y_scale, for y (..., n) in the units of the data."""
        return (y - y.new_tensor(self.y_min)) / y.new_tensor(self.y_scale)

    def physical(self, u: torch.Tensor) -> torch.Tensor:
        """y_min + y_scale u, for scaled states u (..., n)."""
        return u.new_tensor(self.y_min) + u.new_tensor(self.y_scale) * u

    def as_dict(self) -> dict[str, Any]:
        """Plain data, the inverse of from_dict."""
        plain = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }
        if self.warp is not None:
            plain["warp"] = self.warp.as_dict()
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Scaling:
        """The scaling from the data of as_dict."""
        made: dict[str, Any] = {}
        for key, value in plain.items():
            made[key] = value
            if isinstance(value, list):
                made[key] = tuple(value)
        if made.get("inputs") is not None:
            made["inputs"] = Inputs.from_dict(plain["inputs"])
        if made.get("warp") is not None:
            made["warp"] = Warp.from_dict(plain["warp"])
        return cls(**made)


class ScaledField(Constants):
    """du/dt of the scaled states u = (y - y_min) / y_scale, with t in the units of the data.

    'kim':      du/dt = net(u) / t_scale; net: n (+ 1) inputs, n outputs
    'decades':  du/dt = a sigmoid(5 b + 2) / t_scale with (a, b) = net(u);
                net: n (+ 1) inputs, 2 n outputs

    A positive state has production - v loss in the place of net or of a, with v = y / y_scale, both
    softplus of outputs; at zero, such a rate cannot be negative (H. Burchard, E. Deleersnijder, A.
    Meister, Appl. Numer. Math. 47 (2003), have such systems). The outputs are those of the rates,
    then n for the losses, then n for the gates. A known part of dy/dt is added, and then the part
    of the rates that changes conserved sums is taken away (balance.py).

    With positive states and conserved sums the network has one output for each move between states,
    and then one for its gate (moves.py). Of a known part, what changes the sums is taken away.

    With time_input, (t - t_start) / t_span is one more input of the network. Without it the field
    is autonomous. If the data have inputs, the network gets their m scaled values too.
    """

    rate: torch.Tensor
    low: torch.Tensor
    size: torch.Tensor
    positive: torch.Tensor

    def __init__(
        self,
        net: nn.Module,
        scaling: Scaling,
        time_input: bool = False,
        laws: Laws | None = None,
        known: Known | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.scaling = scaling
        self.time_input = time_input
        self.gated = scaling.kind == "decades"
        self.driven = scaling.inputs is not None
        laws = laws or Laws()
        dtype = torch.float64
        self.known = known
        self.keep("rate", 1.0 / valued(scaling.t_scale, dtype))
        self.moves: Moves | None = None
        if laws.both:
            self.moves = Moves(laws, scaling.y_min, scaling.y_scale, self.rate)
        self.balance: Balance | None = None
        if laws.sums and (self.moves is None or known is not None):
            self.balance = Balance(laws, scaling.y_scale, scaling.warp is not None)
        self.some_positive = any(laws.positive) and self.moves is None
        self.all_positive = self.some_positive and all(laws.positive)
        if self.some_positive or known is not None or self.balance is not None:
            self.keep("low", valued(scaling.y_min, dtype))
            self.keep("size", valued(scaling.y_scale, dtype))
        if self.some_positive:
            self.keep("positive", valued(laws.positive, torch.bool))

    def close_gates(self) -> None:
        """Set the biases of the last layer so that every state starts at the rate of the time span,
        the scaling of the paper.

        This is for training without a warm start: with open gates, a random field diverges long
        before the span ends.
        """
        if self.gated:
            fastest = self.rate
            if self.moves is not None:
                fastest = self.moves.fastest
            pace = (1.0 / (fastest * self.scaling.t_span)).clamp(
                max=torch.sigmoid(torch.tensor(OFFSET)).item()
            )
            *_, last = self.net.parameters()
            with torch.no_grad():
                last[-len(pace) :] = (torch.logit(pace) - OFFSET) / SLOPE

    def forward(
        self, t: float | torch.Tensor, u: torch.Tensor, w: torch.Tensor | None = None
    ) -> torch.Tensor:
        """du/dt, (..., n), at the scaled states u, (..., n), and the time t, which is 0-d or has
        the leading shape of u. w: (m,) or (..., m), the scaled inputs, if the field has any."""
        state = u
        if self.driven:
            if w is None:
                raise ValueError("this field has inputs: call it with their scaled values w")
            u = torch.cat((u, w.to(u.dtype).expand(*u.shape[:-1], w.shape[-1])), -1)
        if self.time_input:
            time = torch.as_tensor(t, dtype=u.dtype, device=u.device)
            scaled = (time - self.scaling.t_start) / self.scaling.t_span
            scaled = scaled.unsqueeze(-1).expand(*state.shape[:-1], 1)
            out = self.net(torch.cat((u, scaled), -1))
        else:
            out = self.net(u)
        rates = self._rates(out, state)
        if self.known is None and self.balance is None:
            return rates
        y = self.low + self.size * state
        stretch = None
        warp = self.scaling.warp
        if warp is not None:
            y = warp.inverse(y)
            stretch = warp.stretch(y)
        if self.known is not None:
            given = self.known(t, y) / self.size
            if stretch is not None:
                given = given / stretch
            if self.moves is not None and self.balance is not None:
                return rates + self.balance(given)
            rates = rates + given
        if self.balance is not None:
            rates = self.balance(rates, stretch)
        return rates

    def _rates(self, out, u):
        """The learned part of du/dt, (..., n), from the outputs of the network."""
        if self.moves is not None:
            count = self.moves.count
            gates = None
            if self.gated:
                gates = torch.sigmoid(SLOPE * out[..., count:] + OFFSET)
            return self.moves(u, out[..., :count], gates)
        n = u.shape[-1]
        made = out[..., :n]
        if self.some_positive:
            softplus = nn.functional.softplus
            v = u + self.low / self.size
            safe = softplus(made) - v * softplus(out[..., n : 2 * n])
            if self.all_positive:
                made = safe
            else:
                made = torch.where(self.positive, safe, made)
        if not self.gated:
            return self.rate * made
        return self.rate * made * torch.sigmoid(SLOPE * out[..., -n:] + OFFSET)


class PhysicalField(Constants):
    """dy/dt = y_scale du/dt, times dy/dz in other coordinates: a learned field in the units of the
    data, to solve, compare and extend.

    y0: (n,) the first state of the first trajectory.
    tspan: its first and last time.
    t_eval: its times.
    columns: names of the states; the last ones are hidden, if there are any.
    starts: learned starts, by the names of the trajectories, in the units of the data.
    time_unit: of the data, '' if unknown.
    atol: (n,) a thousandth of rtol of each state's range.
    inputs: names of its exogenous inputs, which are those of the first trajectory until
        ``with_inputs`` gives it others.
    """

    y_min: torch.Tensor
    y_scale: torch.Tensor
    y0: torch.Tensor

    def __init__(
        self,
        field: ScaledField,
        columns: Sequence[str],
        y0: torch.Tensor | Sequence[float],
        t_eval: Times,
        starts: dict[str, list[float]] | None = None,
        time_unit: str = "",
    ) -> None:
        super().__init__()
        self.field = field
        self.time_unit = time_unit
        self.columns = tuple(columns)
        dtype = torch.float64
        self.keep("y_min", valued(field.scaling.y_min, dtype))
        self.keep("y_scale", valued(field.scaling.y_scale, dtype))
        self.keep("y0", valued(y0, dtype))
        self.t_eval = torch.as_tensor(t_eval, dtype=torch.float64)
        self.starts = starts or {}
        self.inputs: tuple[str, ...] = ()
        self.table: InputTable | None = None
        if field.scaling.inputs is not None:
            self.inputs = field.scaling.inputs.names
            self.table = field.scaling.inputs.table()

    @property
    def tspan(self) -> tuple[float, float]:
        """The first and the last time."""
        return float(self.t_eval[0]), float(self.t_eval[-1])

    def atol(self, rtol: float) -> torch.Tensor:
        """(n,) absolute tolerances that suit this rtol, in the units of the data."""
        warp = self.field.scaling.warp
        if warp is None:
            return 1e-3 * rtol * self.y_scale
        return 1e-3 * rtol * self.y_scale.new_tensor(warp.small(self.field.scaling.y_scale))

    def start_of(self, run: Trajectory) -> torch.Tensor:
        """(n,) the start of a trajectory: its learned one; otherwise its first observation, with
        the mean of the learned hidden states."""
        if run.name in self.starts:
            return self.y0.new_tensor(self.starts[run.name])
        observed = run.y[0].to(self.y0)
        hidden = len(self.columns) - len(observed)
        if not hidden:
            return observed
        learned = self.y0.new_tensor(list(self.starts.values()))
        return torch.cat((observed, learned.mean(0)[-hidden:]))

    @property
    def stops(self) -> dict[str, Any]:
        """Options of ``solve``: the times at which the inputs jump or have kinks."""
        if self.table is None:
            return {}
        return self.table.stops()

    def with_inputs(self, t: torch.Tensor, u: torch.Tensor) -> PhysicalField:
        """The same field with other inputs: u, (K, m), in the units of the data, at the times t,
        (K,). Raises ValueError if the field has none."""
        inputs = self.field.scaling.inputs
        if inputs is None:
            raise ValueError("the data of this field had no inputs (--input), so it takes none")
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.table = inputs.table(t, u)
        return other

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the components of y: those of the data."""
        return self.columns

    def as_problem(self, name: str) -> Problem:
        """The learned system as a Problem of this name."""
        atol = tuple(self.atol(1e-6).tolist())
        source = "learned from data by pynode train"
        return Problem(
            name,
            self,
            self.y0,
            self.tspan,
            1e-6,
            atol,
            stiff=True,
            source=source,
            t_eval=self.t_eval,
        )

    def forward(self, t: float | torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """dy/dt, (..., n), at the states y, (..., n), and time t."""
        if self.table is None:
            return self.rates(t, y)
        return self.rates(t, y, self.table(torch.as_tensor(t, dtype=y.dtype)))

    def rates(
        self, t: float | torch.Tensor, y: torch.Tensor, w: torch.Tensor | None = None
    ) -> torch.Tensor:
        """dy/dt, (..., n), at states y and scaled inputs w, (m,) or (..., m)."""
        warp = self.field.scaling.warp
        z = y if warp is None else warp.forward(y)
        rates = self.y_scale * self.field(t, (z - self.y_min) / self.y_scale, w)
        if warp is None:
            return rates
        return rates * warp.stretch(y)
