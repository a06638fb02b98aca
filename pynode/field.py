"""The vector field as the methods see it: flat states, float times, counted."""

from __future__ import annotations

import copy

import torch

from .held import Held
from .split import SplitField
from .stats import Stats
from .status import RejectStep


class VectorField:
    """f(t, y) with y flat, (n,), and t a float.

    parameters: the tensors that gradients reach: those in ``params`` if given, else the module's parameters and the
    tensors in args that require a gradient; for a plain function, the leaves that it closes over.
    sources: the tensors that receive their gradients; parts: the implicit and the explicit part of a SplitField, as
    fields with the same counts; None for any other f.
    mass: M of M y' = f, None for the identity; structure: how its Jacobians are made and solved with, None for dense.
    compiled: CompiledSteps of whole steps on this field (methods/compiled.py), None where steps are run as they stand.
    period: points that ``many`` wants to get together (adjoints/row_points.py); here each stands alone.
    """

    mass = structure = compiled = None
    period = 1

    def __init__(self, problem, layout, t0: float, params=None):
        self.layout, self.stats = layout, Stats()
        self.f, self.args, self.user_jac = problem.f, problem.args, problem.jac
        self.dtype, self.device, self.size, self.flat = layout.dtype, layout.device, layout.size, layout.flat
        self.held = Held(self.f, self.device)
        self.parameters = self._find_parameters(problem, t0) if params is None else [p for p in params if p.requires_grad]
        self.sources = self.parameters
        self.parts = self._split()

    def isolated(self) -> VectorField:
        """The same field on args that are leaves, so that no gradient passes through one parameter into another.

        sources: the tensors of which its parameters are copies, or themselves.
        """
        found = copy.copy(self)
        leaves = {id(a): a.detach().requires_grad_() for a in self.args if isinstance(a, torch.Tensor) and a.requires_grad}
        found.args = tuple(leaves.get(id(a), a) for a in self.args)
        found.parameters, found.sources = [leaves.get(id(p), p) for p in self.parameters], self.parameters
        found.parts = found._split()
        return found

    def _split(self):
        both = isinstance(self.f, SplitField)
        return (self._part(self.f.implicit), self._part(self.f.explicit)) if both else None

    def _part(self, f):
        """The field of one part of f. A user's Jacobian is that of the whole, and so of no use to it."""
        part = copy.copy(self)
        part.f, part.user_jac = f, None
        return part

    def _find_parameters(self, problem, t0):
        def evaluate(args):
            y0 = self.layout.ravel(problem.y0).detach()
            time = torch.full((), t0, dtype=self.dtype, device=self.device)
            return self.layout.ravel(self._called_first(self.f, time, self.layout.unravel(y0), *args))

        return find_parameters(self.f, self.args, evaluate)

    def __call__(self, t: float, y):
        """dy/dt at (t, y), (n,)."""
        self.stats.nfe += 1
        return self.at(torch.scalar_tensor(t, dtype=self.dtype, device=self.device), y)

    def slope(self, t: float, y):
        """y' at (t, y), (n,): f itself without a mass matrix."""
        return self(t, y) if self.mass is None else self.mass.rate(self(t, y))

    def first(self, t: float, y):
        """y' at the start, with a sentence where the module's dtype is not that of the state.

        Outside inference mode, so that constants which a module makes at its first call can serve a graph later.
        """
        differentiable = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(differentiable):
            return self._called_first(self.slope, t, y)

    def _called_first(self, f, *arguments):
        return called_first(f, self.f, self.dtype, *arguments)

    def at(self, t, y):
        """dy/dt, (n,), for t a 0-d tensor; not counted. TypeError and ValueError where f returns something else."""
        if self.flat:
            out = self.f(t, y, *self.args)
            if not isinstance(out, torch.Tensor) or out.shape != y.shape:
                out = self.layout.ravel(out)
        else:
            out = self.layout.ravel(self.f(t, self.layout.unravel(y), *self.args))
        if out.dtype != y.dtype:
            raise wrong_dtype(out, self.dtype)
        return out

    def rows(self, t, y):
        """f of every row of y, (m, n), in one call with a leading dimension; right only where f broadcasts over it."""
        out = self.f(t, self.layout.unravel(y), *self.args)
        return self.layout.ravel_rows(out, len(y))

    def many(self, t, y):
        """f at many points, t (m,) and y (m, n) -> (m, n): one call under vmap where f allows it, else a loop."""
        try:
            return torch.func.vmap(self.at)(t, y)
        except (RuntimeError, ValueError, TypeError, NotImplementedError):
            return torch.stack([self.at(ti, yi) for ti, yi in zip(t, y)])


def called_first(call, f, dtype, *arguments):
    """call(*arguments), which calls f; TypeError where f is a module that cannot take a state of this dtype."""
    try:
        return call(*arguments)
    except RuntimeError as error:
        if "dtype" not in str(error):
            raise
        parameters = f.parameters() if isinstance(f, torch.nn.Module) else ()
        own = {str(p.dtype) for p in parameters} - {str(dtype)}
        raise TypeError(
            f"the vector field cannot take a state of {dtype}"
            + (f": it has parameters of {' and '.join(sorted(own))}" if own else "")
            + f"; convert the module with module.to({dtype}), or y0 ({error})"
        ) from error


def wrong_dtype(out, dtype) -> TypeError:
    """The error of an f that returned out for a state of this dtype."""
    return TypeError(
        f"the vector field returned {out.dtype} for a state of {dtype}; convert the module or y0 so that both agree, for "
        "instance with module.to(y0.dtype)"
    )


def find_parameters(f, args, evaluate) -> list:
    """The tensors that gradients reach: parameters of a module, those in args, leaves that a plain function closes over, or
    that a module without parameters holds (a replica of DataParallel has tensors in their place).

    evaluate(args) -> f at the start, a tensor, in whose graph the leaves are found.
    """
    if not torch.is_grad_enabled():
        return []
    found = [a for a in args if isinstance(a, torch.Tensor) and a.requires_grad]
    plain = isinstance(f, SplitField) and not all(isinstance(part, torch.nn.Module) for part in (f.implicit, f.explicit))
    own = list(f.parameters()) if isinstance(f, torch.nn.Module) and not plain else []
    if own:
        return [p for p in own if p.requires_grad] + found
    known = {id(p) for p in found}
    try:
        out = evaluate(tuple(a.detach() if isinstance(a, torch.Tensor) else a for a in args))
    except RejectStep:
        return found  # an infeasible start, which the integrator will tell
    return found + [leaf for leaf in _leaves(out) if id(leaf) not in known]


def _leaves(out):
    """The leaf tensors in the graph of out."""
    leaves, seen, todo = [], set(), [out.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves.append(leaf)
        todo.extend(parent for parent, _ in node.next_functions)
    return leaves
