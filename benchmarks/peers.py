"""The peers that run in torch or JAX, one function each, all on the field of the problem with the same outputs.

f(t, y) -> dy/dt; y0: (n,) or (batch, n); t: (T,) float64 tensor; atol: a float or one value a component. The eager ones return
the states (T, ...) as a tensor. A package that is not installed raises ImportError when its function is called.
"""

import os
import time

import numpy as np
import torch

from pynode.problems import bilinear, hires, lorenz, spiral, vanderpol


def torchdiffeq(f, y0, t, method, rtol, atol, adjoint=False, options=None):
    """torchdiffeq's odeint or odeint_adjoint. method 'scipy_solver' takes options={'solver': 'BDF'}."""
    from torchdiffeq import odeint, odeint_adjoint

    atol = atol if isinstance(atol, float) else torch.as_tensor(atol)
    return (odeint_adjoint if adjoint else odeint)(f, y0, t, rtol=rtol, atol=atol, method=method, options=options)


def torchode(f, y0, t, method, rtol, atol):
    """torchode's 'Tsit5' or 'Dopri5', which step every sample of a batch by itself. It takes one atol: the smallest."""
    import torchode as package

    rows = y0 if y0.dim() == 2 else y0.unsqueeze(0)
    term = package.ODETerm(f)
    stepper = getattr(package, method)(term=term)
    control = package.IntegralController(atol=float(np.min(atol)), rtol=rtol, term=term)
    problem = package.InitialValueProblem(y0=rows, t_eval=t.expand(len(rows), -1))
    ys = package.AutoDiffAdjoint(stepper, control).solve(problem).ys.transpose(0, 1)
    return ys if y0.dim() == 2 else ys.squeeze(1)


class Diffrax:
    """A diffrax solver on a JAX twin of the field, compiled for the problem once, for all tolerances.

    compile_seconds: on the wall, of the tracing, the compilation and the first, loose solve.
    """

    def __init__(self, field, y0, t, method, atol, max_steps):
        # One thread, as for all others; read when JAX is loaded.
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
        import diffrax
        import jax
        from jax import numpy as jnp

        jax.config.update("jax_enable_x64", True)
        right, t = twin(field), np.asarray(t)
        start, times = jnp.asarray(y0.numpy()), jnp.asarray(t[1:])
        expected = field(0.0, y0).detach().numpy()
        if not np.allclose(right(0.0, start), expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max()):
            raise ValueError(f"the JAX twin of {type(field).__name__} is another field")
        term, solver = diffrax.ODETerm(right), getattr(diffrax, method)()

        @jax.jit
        def solve(rtol, atol):
            found = diffrax.diffeqsolve(
                term, solver, t[0], t[-1], None, start, saveat=diffrax.SaveAt(ts=times), max_steps=max_steps, throw=False,
                stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            )
            return found.ys, found.stats["num_steps"], found.result == diffrax.RESULTS.successful

        self.solve, self.array = solve, jnp.asarray
        began = time.perf_counter()
        self(1e-1, 1e3 * np.asarray(atol))
        self.compile_seconds = time.perf_counter() - began

    def __call__(self, rtol, atol):
        """(states (T - 1, n) without the start, steps tried, whether it reached the end)."""
        ys, steps, done = self.solve(self.array(rtol), self.array(atol))
        return np.asarray(ys), int(steps), bool(done)


def twin(field):
    """The field of a problem of pynode.problems as a JAX function f(t, y, args) of one state (n,)."""
    from jax import numpy as jnp

    fixed = {name: jnp.asarray(value.numpy()) for name, value in field._buffers.items()}
    k = jnp.asarray(field.k.detach().numpy())
    if isinstance(field, bilinear.Bilinear):
        c = jnp.asarray(field.coefficients().detach().numpy())
        return lambda t, y, args=None: fixed["S"] @ (c * y[fixed["first"]] * (fixed["A"] @ y + fixed["b"]))
    if isinstance(field, vanderpol.VanDerPol):
        return lambda t, y, args=None: fixed["rotation"] @ y + k * (fixed["W"] @ (y * y) + fixed["b"]) * y
    if isinstance(field, hires.Hires):
        linear, source, bound = fixed["linear"], fixed["source"], fixed["bound"]
        return lambda t, y, args=None: linear @ y + source + k * (bound @ y) * y[7]
    if isinstance(field, spiral.Spiral):
        return lambda t, y, args=None: k.reshape(2, 2) @ (y * y * y)
    if isinstance(field, lorenz.Lorenz):
        return lambda t, y, args=None: fixed["N"] @ y + k * (fixed["M"] @ y) + y[0] * (fixed["P"] @ y)
    raise ValueError(f"no JAX twin of {type(field).__name__}: write one here")
