"""The leaf tensors that a vector field depends on: those in the graph of an evaluation, and those
within its reach."""

from __future__ import annotations

import functools
import sys
import types
from typing import NamedTuple

import torch
from torch.utils import _pytree as pytree

# Objects looked at in search of tensors. A field that can reach more is found out in the backward
# pass.
MOST = 2000
# What nn.Module keeps for itself; its parameters, buffers and submodules are looked at by name.
_INTERNALS = frozenset(torch.nn.Module().__dict__)
# Objects that hold no tensors of a field, and those whose insides are no business of ours.
_OPAQUE = (
    str,
    bytes,
    int,
    float,
    complex,
    bool,
    type(None),
    type,
    types.ModuleType,
    types.CodeType,
    types.BuiltinFunctionType,
    torch.dtype,
    torch.device,
    torch.Size,
    torch.Generator,
)


# Marks the leaves by which pynode differentiates inside a graph.
_OWN = "_pynode_own"


def own_leaf(x):
    """x, a tensor without a graph, as a leaf that is none of f's."""
    setattr(x, _OWN, True)
    return x.requires_grad_()


class LostLeaves(RuntimeError):
    """The graph of f reached leaf tensors that are not among its parameters. leaves: these."""

    def __init__(self, leaves):
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        super().__init__(
            f"f used tensors that require a gradient (of shape {shapes}) and that were not found"
            " when the solve began, so that their gradient would be missing: pass them in args,"
            " make them parameters of f, or name them in params=[...]"
        )
        self.leaves = leaves

    def __reduce__(self):
        # An exception is made again from its message otherwise.
        return LostLeaves, (self.leaves,)


class Leaves(NamedTuple):
    """What the gradient of a solve reaches.

    args: those of f, with copies that are leaves in the place of tensors that require a gradient,
    so that no gradient passes through one parameter into another. parameters: the tensors to
    differentiate f in. sources: the tensor that receives the gradient of each; a tensor may stand
    there twice, as it may reach f in two ways. spare: leaves within the reach of f that its first
    evaluation did not use. named: whether the user chose the parameters, and the rest is left out
    on purpose.
    """

    args: tuple
    parameters: list
    sources: list
    spare: list
    named: bool

    @property
    def any(self) -> bool:
        """Whether f may depend on a tensor that requires a gradient."""
        return bool(self.parameters or self.spare)

    @property
    def inputs(self) -> list:
        """The tensors whose gradients the solve returns: the sources, then the spare leaves."""
        return [*self.sources, *self.spare]

    def check(self, out, inputs):
        """LostLeaves where the graph of out has leaves beside the inputs and the parameters."""
        if self.named:
            return
        known = {id(x) for x in (*self.parameters, *inputs)}
        found = leaves_of(out, inputs)
        lost = [leaf for leaf in found if id(leaf) not in known]
        if lost:
            raise LostLeaves(lost)

    def extended(self, lost):
        """The same with leaves that turned out to be used; LostLeaves where they are not spare."""
        spare = {id(leaf) for leaf in self.spare}
        if any(id(leaf) not in spare for leaf in lost):
            raise LostLeaves(lost)
        found = {id(leaf) for leaf in lost}
        rest = [leaf for leaf in self.spare if id(leaf) not in found]
        return self._replace(
            parameters=[*self.parameters, *lost], sources=[*self.sources, *lost], spare=rest
        )

    def beside(self, cotangents, inputs) -> list:
        """Cotangents of the parameters beside the inputs of another Leaves; None for the spare
        ones."""
        found = {id(p): g for p, g in zip(self.parameters, cotangents, strict=True)}
        return [found.get(id(p)) for p in inputs]


def no_leaves(args) -> Leaves:
    """Of a solve that makes no gradient itself."""
    return Leaves(args, [], [], [], True)


def find_leaves(f, args, held, evaluate, params=None) -> Leaves:
    """The Leaves of f(t, y, *args).

    held: of f (ModuleState). evaluate(args): f at the start of the solve with its graph, and the
    state there; None where f refuses the start. params: the tensors that the user wants gradients
    of; None for all.
    """
    if not torch.is_grad_enabled():
        return no_leaves(args)
    args, copies = isolated(args)
    pairs = [*copies, *held.copies]
    start = evaluate(args)
    if params is not None:
        return _named(args, pairs, params)
    replaced = {id(source) for _, source in held.copies}
    if isinstance(f, torch.nn.Module):
        own = list(f.parameters())
    else:
        own = []
    own = unique(p for p in own if p.requires_grad and id(p) not in replaced)
    parameters = [*own, *(copy for copy, _ in pairs)]
    sources = [*own, *(source for _, source in pairs)]
    known = {id(p) for p in parameters}
    used = []
    # Before the graph is looked at: what TorchScript holds counts as held as long as it stands in
    # this list.
    within = reachable(f, args)
    if start is not None:
        out, y = start
        known.add(id(y))
        used = [leaf for leaf in leaves_of(out) if id(leaf) not in known]
        known.update(id(leaf) for leaf in used)
    spare = [leaf for leaf in within if id(leaf) not in known]
    return Leaves(args, [*parameters, *used], [*sources, *used], spare, False)


def _named(args, pairs, params):
    """The Leaves that the user has chosen. pairs: (copy, tensor) of what f gets copies of."""
    chosen = unique(p for p in params if p.requires_grad)
    numbers = {id(p) for p in chosen}
    for p in chosen:
        if p.grad_fn is not None:
            above = leaves_of(p)
        else:
            above = []
        if any(id(leaf) in numbers for leaf in above):
            raise ValueError(
                f"params names a tensor of shape {tuple(p.shape)} and a tensor that it is computed "
                "from, whose gradient would be counted twice: name one of them"
            )
    taken = [(copy, source) for copy, source in pairs if id(source) in numbers]
    parameters = [*chosen, *(copy for copy, _ in taken)]
    return Leaves(args, parameters, [*chosen, *(source for _, source in taken)], [], True)


def isolated(args):
    """(args with a leaf in the place of each tensor that requires a gradient, [(leaf, tensor)])."""
    flat, spec = pytree.tree_flatten(args)
    copies = {}
    for x in flat:
        if isinstance(x, torch.Tensor) and x.requires_grad and id(x) not in copies:
            copies[id(x)] = x.detach().requires_grad_(), x
    if not copies:
        return args, []
    flat = [copies[id(x)][0] if id(x) in copies else x for x in flat]
    return pytree.tree_unflatten(flat, spec), list(copies.values())


def tensors_in(args) -> list:
    """The tensors in nested arguments."""
    return [x for x in pytree.tree_leaves(args) if isinstance(x, torch.Tensor)]


def unique(tensors) -> list:
    """Each tensor once, in order."""
    return list({id(x): x for x in tensors}.values())


def leaves_of(out, inputs=()) -> list:
    """The leaf tensors in the graph of out, those behind the inputs left out.

    Leaves that f made for itself and that nobody holds any more do not count: nobody can ask for
    their gradient. Neither do those of pynode.
    """
    if out.grad_fn is None:
        if out.requires_grad:
            return [out]
        return []
    return [
        leaf
        for leaf, count in _leaves(out, inputs)
        if count > _unheld() and not hasattr(leaf, _OWN)
    ]


@functools.cache
def _unheld() -> int:
    """The number of references to a leaf that nobody holds, as _leaves counts them."""
    with torch.enable_grad():
        out = torch.ones(1, requires_grad=True) * 2
    return next(count for _, count in _leaves(out, ()))


def _leaves(out, inputs):
    """(leaf, references to it) of the leaf tensors in the graph of out."""
    ends = {(x.grad_fn, x.output_nr) for x in inputs if x.grad_fn is not None}
    seen = set()
    todo = [(out.grad_fn, out.output_nr)]
    while todo:
        place = todo.pop()
        node = place[0]
        if node is None or place in ends or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            yield leaf, sys.getrefcount(leaf)
        todo.extend(node.next_functions)


def reachable(*roots) -> list:
    """The leaf tensors that require a gradient and that functions, modules and containers can
    reach: parameters, attributes, elements, closures, defaults, and globals that a function
    names."""
    found: dict[int, torch.Tensor] = {}
    seen: set[int] = set()
    todo = list(roots)
    place = 0
    while place < len(todo) and place < MOST:
        item = todo[place]
        place += 1
        if isinstance(item, _OPAQUE) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            if item.requires_grad:
                if item.grad_fn is None:
                    leaves = [item]
                else:
                    leaves = leaves_of(item)
                found.update((id(leaf), leaf) for leaf in leaves)
            continue
        todo.extend(_within(item))
    return list(found.values())


def _within(item):
    """What an object holds."""
    if isinstance(item, (list, tuple, set, frozenset)):
        return item
    if isinstance(item, dict):
        return item.values()
    if isinstance(item, types.MethodType):
        return item.__self__, item.__func__
    if isinstance(item, types.FunctionType):
        return _of_function(item)
    if isinstance(item, functools.partial):
        return item.func, item.args, item.keywords
    if isinstance(item, torch.nn.Module):
        own = (value for name, value in vars(item).items() if name not in _INTERNALS)
        return (*item._parameters.values(), *item._buffers.values(), *item._modules.values(), *own)
    if type(item).__module__.split(".")[0] in ("torch", "numpy", "builtins"):
        return ()
    slots = (getattr(item, name, None) for name in getattr(type(item), "__slots__", ()))
    return (*getattr(item, "__dict__", {}).values(), *slots)


def _of_function(function):
    cells = [content(cell) for cell in function.__closure__ or ()]
    names = _names(function.__code__)
    own = [function.__globals__[name] for name in names if name in function.__globals__]
    defaults = (function.__defaults__, function.__kwdefaults__, function.__dict__)
    return (*cells, *own, *defaults)


def _names(code):
    """The global names in a function's code, and in that of the functions inside it."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def content(cell):
    """What a closure's cell holds, None where its name is not bound yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
