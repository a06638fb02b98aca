"""diffrax's solvers on a JAX twin of the field, compiled."""

import os
import time
from functools import cache, partial

import numpy as np
import torch
from torch import nn

from benchmarks.contestants import MAX_STEPS
from benchmarks.formulas import formula
from benchmarks.peers import Peer, Solver, register
from benchmarks.problems import GRADIENTS, SMOOTH, STIFF
from pynode.train.scaling import OFFSET, SLOPE

GRADIENT_STEPS = 16_384  # diffrax allots checkpoints by its largest number of steps


def load():
    """(diffrax, jax, jax.numpy) in float64 on one thread, as for all others; the flags are read
    when JAX is loaded."""
    os.environ.setdefault(
        "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    )
    import diffrax
    import jax
    from jax import numpy as jnp

    jax.config.update("jax_enable_x64", True)
    return diffrax, jax, jnp


def solution_at(times, term, solver, t0, start, values, rtol, atol, max_steps, **options):
    """diffrax's solution from t0 to the last of the times, (T,). values: the args of
    the field; options: further ones of diffeqsolve."""
    import diffrax

    return diffrax.diffeqsolve(
        term,
        solver,
        t0,
        times[-1],
        None,
        start,
        values,
        saveat=diffrax.SaveAt(ts=times),
        max_steps=max_steps,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        throw=False,
        **options,
    )


class Diffrax:
    """A diffrax solver on a JAX twin of the field, compiled for the problem once, for all
    tolerances.

    compile_seconds: on the wall, of the tracing, the compilation and the first, loose solve.
    """

    def __init__(self, field, y0, t, method, atol, max_steps):
        diffrax, jax, jnp = load()
        right = twin(field)
        t = np.asarray(t)
        start = jnp.asarray(y0.numpy())
        times = jnp.asarray(t[1:])
        expected = field(0.0, y0).detach().numpy()
        if not np.allclose(
            right(0.0, start), expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max()
        ):
            raise ValueError(f"the JAX twin of {type(field).__name__} is another field")
        term = diffrax.ODETerm(right)
        solver = getattr(diffrax, method)()

        @jax.jit
        def solve(rtol, atol):
            found = solution_at(times, term, solver, t[0], start, None, rtol, atol, max_steps)
            return found.ys, found.stats["num_steps"], found.result == diffrax.RESULTS.successful

        self.solve = solve
        self.array = jnp.asarray
        began = time.perf_counter()
        self(1e-1, 1e3 * np.asarray(atol))
        self.compile_seconds = time.perf_counter() - began

    def __call__(self, rtol, atol):
        """(states (T - 1, n) without the start, steps tried, whether it reached the end)."""
        ys, steps, done = self.solve(self.array(rtol), self.array(atol))
        return np.asarray(ys), int(steps), bool(done)


class DiffraxGradient:
    """The gradient of a loss by diffrax's RecursiveCheckpointAdjoint in y0 and the parameters of a
    network, compiled once for all tolerances. The loss is the mean square of the outputs after the
    start, divided by largest, (n,).

    compile_seconds: on the wall, of the tracing, the compilation and the first, loose gradient.
    """

    def __init__(self, field, y0, t, method, largest, max_steps):
        diffrax, jax, jnp = load()
        right = twin(field)
        t = np.asarray(t)
        values = [jnp.asarray(p.detach().numpy()) for p in field.parameters()]
        term = diffrax.ODETerm(right)
        solver = getattr(diffrax, method)()
        start = jnp.asarray(y0.numpy())
        times = t[1:]
        scale = jnp.asarray(largest)

        def loss(start, values, rtol, atol):
            found = solution_at(
                times,
                term,
                solver,
                t[0],
                start,
                values,
                rtol,
                atol,
                max_steps,
                adjoint=diffrax.RecursiveCheckpointAdjoint(),
            )
            done = found.result == diffrax.RESULTS.successful
            return jnp.square(found.ys / scale).mean(), (found.stats["num_steps"], done)

        gradient = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
        self.solve = lambda rtol, atol: gradient(
            start, values, jnp.asarray(rtol), jnp.asarray(atol)
        )
        began = time.perf_counter()
        self(1e-1, 1e-1)
        self.compile_seconds = time.perf_counter() - began

    def __call__(self, rtol, atol):
        """(gradient (n + p,), steps tried, whether it reached the end)."""
        (start, values), (steps, done) = self.solve(rtol, atol)
        return np.concatenate([np.ravel(part) for part in (start, *values)]), int(steps), bool(done)


class DiffraxBatch:
    """jax.vmap over a diffrax solve, forward or with the gradient of the mean square of the outputs
    over scale, (n,), in the starts and the constants; compiled at the first call.

    right: f(t, y, constants) of one row in JAX; y0: (B, n), constants: (B, ...), t: (T,), tensors;
    device: JAX's name of it.
    """

    def __init__(self, right, y0, constants, t, method, rtol, atol, scale, max_steps, device):
        diffrax, jax, jnp = load()
        times = jnp.asarray(t[1:].cpu().numpy())
        self.jax = jax
        term = diffrax.ODETerm(right)
        solver = getattr(diffrax, method)()

        def one(y0, constants):
            found = solution_at(times, term, solver, 0.0, y0, constants, rtol, atol, max_steps)
            return found.ys, found.result == diffrax.RESULTS.successful

        def loss(y0, constants):
            ys, done = jax.vmap(one)(y0, constants)
            return jnp.square(ys / jnp.asarray(scale)).mean(), done

        where = jax.devices(device)[0]
        self.given = [jax.device_put(x.detach().cpu().numpy(), where) for x in (y0, constants)]
        self._forward = jax.jit(jax.vmap(one))
        self._gradient = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))

    def forward(self):
        """(states (T - 1, B, n) without the start, rows that did not reach the end)."""
        ys, done = self.jax.block_until_ready(self._forward(*self.given))
        return np.asarray(ys).swapaxes(0, 1), int((~np.asarray(done)).sum())

    def gradient(self):
        """(gradient in the starts and in the constants, rows that did not reach the end)."""
        grads, done = self.jax.block_until_ready(self._gradient(*self.given))
        return [np.asarray(part) for part in grads], int((~np.asarray(done)).sum())


class DiffraxTraining:
    """The training of a neural ODE, a pynode.train ScaledField, on scaled observations, with
    everything compiled at once: solve, RecursiveCheckpointAdjoint and Adam (Kingma & Ba 2015, as
    torch.optim.Adam has it).

    t: (T,) times; observed: (T, n), the first row the start; the loss is the mean absolute error of
    the others.
    """

    def __init__(self, field, t, observed, method, rtol, rate, max_steps):
        diffrax, jax, jnp = load()
        right = network(field)
        self.tolerance = rtol
        self.array = jnp.asarray
        term = diffrax.ODETerm(right)
        solver = getattr(diffrax, method)()
        times = jnp.asarray(t[1:].numpy())
        start = jnp.asarray(observed[0].numpy())
        wanted = jnp.asarray(observed[1:].numpy())
        self.values = [jnp.asarray(p.detach().numpy()) for p in field.parameters()]
        self.moments = [(jnp.zeros_like(w), jnp.zeros_like(w)) for w in self.values]
        self.iterations = 0
        if not np.allclose(
            right(0.0, start, self.values), field(0.0, observed[0]).detach().numpy(), rtol=1e-12
        ):
            raise ValueError("the JAX network is another field")

        def loss(values, rtol, max_steps=max_steps):
            found = solution_at(
                times,
                term,
                solver,
                0.0,
                start,
                values,
                rtol,
                1e-3 * rtol,
                max_steps,
                adjoint=diffrax.RecursiveCheckpointAdjoint(),
            )
            done = found.result == diffrax.RESULTS.successful
            return jnp.abs(found.ys - wanted).mean(), (found.stats["num_accepted_steps"], done)

        @jax.jit
        def iterate(values, moments, i, rtol):
            (value, (steps, _)), grads = jax.value_and_grad(loss, has_aux=True)(values, rtol)
            moments = [
                (0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g) for (m, v), g in zip(moments, grads)
            ]
            moved = [
                w - rate * (m / (1 - 0.9**i)) / (jnp.sqrt(v / (1 - 0.999**i)) + 1e-8)
                for w, (m, v) in zip(values, moments)
            ]
            return moved, moments, value, steps

        # Tight tolerances may need more steps.
        self._iterate = iterate
        self._gradient = jax.jit(jax.grad(partial(loss, max_steps=16 * max_steps), has_aux=True))

    def iterate(self):
        """(loss, steps taken) of one iteration of Adam; the first one compiles."""
        self.iterations += 1
        self.values, self.moments, loss, steps = self._iterate(
            self.values, self.moments, float(self.iterations), self.tolerance
        )
        return float(loss), int(steps)

    def weights(self) -> list:
        return [torch.from_numpy(np.array(w)) for w in self.values]

    def gradient(self, weights, rtol=None):
        """d loss / d weights as one vector, NaN where the solve fails."""
        grads, (_, done) = self._gradient(
            [self.array(w.numpy()) for w in weights], rtol or self.tolerance
        )
        grads = grads if done else [np.full_like(g, np.nan) for g in grads]
        return torch.cat([torch.from_numpy(np.array(g)).flatten() for g in grads])


def network(field):
    """The pynode.train ScaledField, without time as an input, as a JAX function f(t, u,
    parameters)."""
    import jax
    from jax import numpy as jnp

    rate = jnp.asarray(field.rate.numpy())
    activations = {nn.GELU: lambda x: jax.nn.gelu(x, approximate=False), nn.Tanh: jnp.tanh}
    activation = activations[type(field.net[1])]

    def right(t, u, parameters):
        for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2]):
            u = activation(weight @ u + bias)
        out = parameters[-2] @ u + parameters[-1]
        if not field.gated:
            return rate * out
        a, b = jnp.split(out, 2)
        return rate * a * jax.nn.sigmoid(SLOPE * b + OFFSET)

    return right


def twin(field):
    """The field of a problem of pynode.problems, or a network, as a JAX function f(t, y, args) of
    one state (n,).

    args: the parameters of a network in the order of field.parameters(); by default its own.
    """
    from jax import numpy as jnp

    right = formula(field, jnp.asarray, jnp.tanh)
    return lambda t, y, args=None: right(y, args)


def by_diffrax(method, case, field):
    compiled = _compiled(
        method, case.problem, tuple(case.times), tuple(case.atol * (1e-6 / case.rtol))
    )

    def solve():
        states, steps, done = compiled(case.rtol, case.atol)
        return (states if done else None), {"steps": steps, "compile_s": compiled.compile_seconds}

    return solve


@cache
def _compiled(method, problem, times, atol):
    with torch.no_grad():
        return Diffrax(
            problem.field,
            problem.y0,
            torch.tensor(times, dtype=torch.float64),
            method,
            atol,
            MAX_STEPS,
        )


@cache
def _differentiated(method, problem, times, scale):
    t = torch.tensor(times, dtype=torch.float64)
    with torch.no_grad():
        return DiffraxGradient(problem.field, problem.y0, t, method, scale, GRADIENT_STEPS)


def gradient_by_diffrax(method, case, field):
    compiled = _differentiated(method, case.problem, tuple(case.times), case.scale)

    def solve():
        gradient, steps, done = compiled(case.rtol, float(case.atol.min()))
        return (gradient if done else None), {"steps": steps, "compile_s": compiled.compile_seconds}

    return solve


def _solver(method):
    return Solver(f"diffrax {method}", partial(by_diffrax, method))


def _gradient(method):
    return Solver(f"diffrax {method}", partial(gradient_by_diffrax, method))


register(
    Peer(
        "diffrax",
        module="diffrax",
        place=40,
        language="JAX, compiled",
        suite={
            STIFF: [_solver("Kvaerno5")],
            SMOOTH: [_solver("Tsit5")],
            GRADIENTS[SMOOTH]: [_gradient("Tsit5")],
            GRADIENTS[STIFF]: [_gradient("Kvaerno5")],
        },
        ladder={STIFF: [_solver("Kvaerno5"), _solver("Kvaerno3")], SMOOTH: [_solver("Tsit5")]},
    )
)
