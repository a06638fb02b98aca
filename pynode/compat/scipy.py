"""scipy_solver: SciPy's solve_ivp on the CPU, without gradients (odeint_adjoint makes them)."""

from __future__ import annotations

import torch

from .call import OdeintError


def integrate(call):
    """States at call.t, (T, *y0.shape), by options['solver'], the name of a method of solve_ivp ('LSODA')."""
    from scipy.integrate import solve_ivp

    y0, options = call.y0.detach(), call.options
    if call.event_fn is not None:
        raise AttributeError("scipy_solver has no events: use 'dopri5', or one of pynode's methods")
    if len(call.t) == 1:
        return y0.unsqueeze(0)
    real = y0.abs().dtype

    def rhs(t, y):
        with torch.no_grad():
            state = torch.as_tensor(y).to(y0).reshape(y0.shape)
            out = call.func(torch.tensor(t, dtype=real, device=y0.device), state)
        return out.cpu().numpy().reshape(-1)

    def number(x):
        return x.expand(y0.shape).reshape(-1).cpu().numpy() if isinstance(x, torch.Tensor) else x

    times, solver = call.t.detach().double().cpu().numpy(), options.get("solver", "LSODA")
    bounds = {"max_step": options.get("max_step", float("inf"))}
    if solver == "LSODA":
        bounds["min_step"] = options.get("min_step", 0.0)
    found = solve_ivp(
        rhs, (times[0], times[-1]), y0.reshape(-1).cpu().numpy(), t_eval=times, method=solver, rtol=number(call.rtol),
        atol=number(call.atol), **bounds,
    )
    if not found.success:
        raise OdeintError(f"{solver} of SciPy failed: {found.message}")
    return torch.as_tensor(found.y.T.copy()).to(y0).reshape(-1, *y0.shape)
