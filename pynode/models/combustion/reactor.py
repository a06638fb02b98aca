"""Homogeneous reactors: dy/dt of a gas that is well mixed.

Turns, An Introduction to Combustion, ch. 6. Enthalpies and heat capacities of the ideal gas make
the energy equation one for T.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...core.reaction_equations import GAS_CONSTANT
from .mechanism import Mechanism
from .mixture import fractions

RISE = 400.0  # K
VOLUME = "constant volume"
PRESSURE = "constant pressure"


class Gas(NamedTuple):
    """The state of a gas: T in K and P in Pa, (..., 1), and concentrations in mol/m3, (..., K)."""

    T: Tensor
    P: Tensor
    c: Tensor


class Inflow(nn.Module):
    """The gas that flows into a stirred reactor, and the time that it stays.

    T: in K. Y: (K,) mass fractions. residence_time: the mass in the reactor over the mass that
    flows in and out in a second, in s.
    """

    T: Tensor
    Y: Tensor
    residence_time: Tensor

    def __init__(self, T: Tensor, Y: Tensor, residence_time: Tensor) -> None:
        super().__init__()
        for name, value in (("T", T), ("Y", Y), ("residence_time", residence_time)):
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, value)


class Reactor(nn.Module):
    """dy/dt of a gas that is well mixed, in mol, m, kg, s, K, Pa and J.

    y, (..., n), has the names ``states``: "T"; "P" if the pressure is constant; and the species by
    their names, with concentrations in mol/m3 at constant volume, and amounts in mol/kg at constant
    pressure. A prescribed T or P is no state.

    mechanism: the gas with its reactions. reactor: 'constant volume' or 'constant pressure'.
    adiabatic: False keeps T. temperature: T(t), prescribed. pressure: P(t), prescribed, for a
    reactor of 'constant pressure'. inflow: makes the reactor stirred.

    The functions of t take a tensor and return one of the same shape. An adiabatic reactor
    differentiates P(t).
    """

    time_unit = "s"

    def __init__(
        self,
        mechanism: Mechanism,
        reactor: str = VOLUME,
        *,
        adiabatic: bool = True,
        temperature: Callable[[Tensor], Tensor] | None = None,
        pressure: Callable[[Tensor], Tensor] | None = None,
        inflow: Inflow | None = None,
    ) -> None:
        super().__init__()
        if reactor not in (VOLUME, PRESSURE):
            raise ValueError(
                f"reactor must be {VOLUME!r} or {PRESSURE!r}, not {reactor!r}; inflow=... makes"
                " either of them a stirred reactor"
            )
        if pressure is not None and reactor != PRESSURE:
            raise ValueError(
                f"a prescribed pressure needs reactor={PRESSURE!r}: at constant volume the pressure"
                " follows from the temperature and the composition"
            )
        self.mechanism = mechanism
        self.species = mechanism.species
        self.reactor = reactor
        self.adiabatic = adiabatic and temperature is None
        self.temperature = temperature
        self.pressure = pressure
        self.inflow = inflow
        names = []
        if temperature is None:
            names.append("T")
        if reactor == PRESSURE and pressure is None:
            names.append("P")
        self._extra = len(names)
        self.states = (*names, *self.species)

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the components of y."""
        return self.states

    @property
    def state_units(self) -> tuple[str, ...]:
        """The units of the components of y."""
        units = {"T": "K", "P": "Pa"}
        extra = [units[name] for name in self.states[: self._extra]]
        content = "mol/kg"
        if self.reactor == VOLUME:
            content = "mol/m3"
        return (*extra, *[content] * len(self.species))

    def extra_repr(self) -> str:
        words = [self.reactor, self._heat()]
        if self.inflow is not None:
            words.append("stirred")
        words.append(f"{len(self.species)} species")
        words.append(f"{len(self.mechanism.equations)} reactions")
        return ", ".join(words)

    def _heat(self) -> str:
        if self.adiabatic:
            return "adiabatic"
        if self.temperature is not None:
            return "T given"
        return "isothermal"

    def initial(self, T: Any, P: Any, X: Any = None, Y: Any = None) -> Tensor:
        """y, (..., n), of a gas at T in K and P in Pa.

        X or Y: mole or mass fractions, as a text "H2:2, O2:1", a mapping or a tensor (..., K). They
        are scaled to the sum one. T and P are numbers or tensors (...,). Give a prescribed T or P
        at the first time.
        """
        if (X is None) == (Y is None):
            raise ValueError("give the composition as mole fractions X or as mass fractions Y")
        T = torch.as_tensor(T, dtype=torch.float64).unsqueeze(-1)
        P = torch.as_tensor(P, dtype=torch.float64).unsqueeze(-1)
        masses = self.mechanism.masses
        if X is not None:
            moles = fractions(X, self.species, "X")
        else:
            moles = fractions(Y, self.species, "Y") / masses
            moles = moles / moles.sum(-1, keepdim=True)
        if self.reactor == VOLUME:
            amounts = moles * (P / (GAS_CONSTANT * T))
        else:
            amounts = moles / (moles * masses).sum(-1, keepdim=True)
        parts = [amounts]
        if "P" in self.states[: self._extra]:
            parts.insert(0, P)
        if "T" in self.states[: self._extra]:
            parts.insert(0, T)
        shape = torch.broadcast_shapes(*[part.shape[:-1] for part in parts])
        return torch.cat([part.expand(*shape, part.shape[-1]) for part in parts], -1)

    def gas(self, t: Any, y: Tensor) -> Gas:
        """T, P and concentrations at the states y, (..., n), and times t: a number, or (..., 1)."""
        leading = y.shape[:-1]
        amounts = self.amounts(y)
        if self.temperature is None:
            T = y[..., :1]
        else:
            T = _function_value(self.temperature, t, y).expand(*leading, 1)
        total = amounts.sum(-1, keepdim=True)
        if self.reactor == VOLUME:
            return Gas(T, GAS_CONSTANT * T * total, amounts)
        if self.pressure is None:
            P = y[..., self._extra - 1 : self._extra]
        else:
            P = _function_value(self.pressure, t, y).expand(*leading, 1)
        density = P / (GAS_CONSTANT * T * total)
        return Gas(T, P, density * amounts)

    def amounts(self, y: Tensor) -> Tensor:
        """(..., K) of the states: concentrations, or amounts in mol/kg."""
        return y[..., self._extra :]

    def mole_fractions(self, y: Tensor) -> Tensor:
        """X, (..., K)."""
        amounts = self.amounts(y)
        return amounts / amounts.sum(-1, keepdim=True)

    def mass_fractions(self, y: Tensor) -> Tensor:
        """Y, (..., K)."""
        masses = self.amounts(y) * self.mechanism.masses
        return masses / masses.sum(-1, keepdim=True)

    def forward(self, t: Any, y: Tensor, threshold: Any = None) -> Tensor:
        """dy/dt, (..., n), at y (..., n) and t: a number, or (..., 1). threshold: an argument of
        events, which f does not use."""
        gas = self.gas(t, y)
        made = self.mechanism.production(*gas)
        if self.reactor == VOLUME:
            return self._at_constant_volume(gas, made)
        return self._at_constant_pressure(t, y, gas, made)

    def ignition_delay(
        self,
        y0: Tensor,
        *,
        temperature: float | Tensor | None = None,
        rise: float = RISE,
        peak: str | None = None,
        end: float = 100.0,
        method: Any = "fbdf",
        rtol: float = 1e-9,
        atol: float | Tensor = 1e-14,
        backend: Any = "auto",
        **options: Any,
    ) -> Tensor:
        """The ignition delay in s, with a gradient in y0 and in all parameters. It is a 0-d tensor
        for y0 (n,), and (B,) for rows (B, n), which are solved as one batch.

        temperature: ignition is where T rises through it, in K; a number, or (B,).
        rise: without a temperature, T of the start plus this rise.
        peak: the name of a state. Ignition is at the first maximum of this state instead.
        end: where the search ends, in s.
        method, rtol, atol, backend and further options: of ``solve``. 'auto' is the native engine
            where it is installed. max_steps is 20,000 by default.

        Raises ValueError if the gas does not ignite; it says how far T has risen.
        """
        # Here, so that native code of f does not watch all that a solve uses.
        from .ignition import ignition_delay

        return ignition_delay(
            self,
            y0,
            temperature=temperature,
            rise=rise,
            peak=peak,
            end=end,
            method=method,
            rtol=rtol,
            atol=atol,
            backend=backend,
            **options,
        )

    def sensitivities(self, value: Tensor) -> Tensor:
        """d value / d ln k of each reaction, (m,): the effect of a factor on the forward and the
        reverse rate constant.

        value: a 0-d tensor computed from a solve, such as the logarithm of an ignition delay.
        """
        mechanism = self.mechanism
        parameters = [mechanism.arrhenius.log_A]
        if mechanism.chebyshev is not None:
            parameters.append(mechanism.chebyshev.coefficients)
        found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
        return mechanism.by_reaction(found)

    def _at_constant_volume(self, gas: Gas, made: Tensor) -> Tensor:
        change = made
        if self.inflow is not None:
            density = (gas.c * self.mechanism.masses).sum(-1, keepdim=True)
            entering = density * self._inflow_amounts()
            change = made + (entering - gas.c) / self.inflow.residence_time
        if self.temperature is not None:
            return change
        if not self.adiabatic:
            return torch.cat((torch.zeros_like(gas.T), change), -1)
        thermo = self.mechanism.thermo
        chosen = thermo.selected(gas.T)
        energies = gas.T * (thermo.enthalpies(gas.T, chosen) - 1.0)
        heat = -(energies * made).sum(-1, keepdim=True)
        if self.inflow is not None:
            flow = (entering * (self._inflow_enthalpies() - energies)).sum(-1, keepdim=True)
            flow = flow - gas.T * gas.c.sum(-1, keepdim=True)
            heat = heat + flow / self.inflow.residence_time
        capacity = ((thermo.heat_capacities(gas.T, chosen) - 1.0) * gas.c).sum(-1, keepdim=True)
        return torch.cat((heat / capacity, change), -1)

    def _at_constant_pressure(self, t: Any, y: Tensor, gas: Gas, made: Tensor) -> Tensor:
        amounts = self.amounts(y)
        volume = GAS_CONSTANT * gas.T * amounts.sum(-1, keepdim=True) / gas.P  # of a kg
        made = made * volume
        change = made
        if self.inflow is not None:
            entering = self._inflow_amounts()
            change = made + (entering - amounts) / self.inflow.residence_time
        parts = [change]
        if self.pressure is None:
            parts.insert(0, torch.zeros_like(gas.T))
        if self.temperature is None and not self.adiabatic:
            parts.insert(0, torch.zeros_like(gas.T))
        elif self.temperature is None:
            thermo = self.mechanism.thermo
            chosen = thermo.selected(gas.T)
            energies = gas.T * thermo.enthalpies(gas.T, chosen)
            heat = -(energies * made).sum(-1, keepdim=True)
            if self.inflow is not None:
                flow = (entering * (self._inflow_enthalpies() - energies)).sum(-1, keepdim=True)
                heat = heat + flow / self.inflow.residence_time
            if self.pressure is not None:
                rise = _derivative(self.pressure, t, y)
                heat = heat + volume * rise / GAS_CONSTANT
            capacity = (thermo.heat_capacities(gas.T, chosen) * amounts).sum(-1, keepdim=True)
            parts.insert(0, heat / capacity)
        return torch.cat(parts, -1)

    def _inflow_amounts(self) -> Tensor:
        """(K,) in mol/kg."""
        assert self.inflow is not None
        return self.inflow.Y / self.mechanism.masses

    def _inflow_enthalpies(self) -> Tensor:
        """(K,) h / R in K, at the temperature of the inflow."""
        assert self.inflow is not None
        T = self.inflow.T.reshape(1)
        return T * self.mechanism.thermo.enthalpies(T)


def _function_value(function: Callable[[Tensor], Tensor], t: Any, y: Tensor) -> Tensor:
    """function(t) as (..., 1)."""
    t = torch.as_tensor(t, dtype=y.dtype, device=y.device)
    value = torch.as_tensor(function(t), dtype=y.dtype, device=y.device)
    if value.dim() == 0:
        value = value.unsqueeze(-1)
    return value


def _derivative(function: Callable[[Tensor], Tensor], t: Any, y: Tensor) -> Tensor:
    """d function(t) / dt, as (..., 1)."""
    t = torch.as_tensor(t, dtype=y.dtype, device=y.device)
    rate: Tensor = torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]
    if rate.dim() == 0:
        rate = rate.unsqueeze(-1)
    return rate
