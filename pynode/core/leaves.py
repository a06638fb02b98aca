"""The leaf tensors that a vector field depends on: in the graph of an evaluation, and within its
reach."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import CellType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from .module_state import ModuleState

# The number of objects to search for tensors. If a field reaches more, the backward pass detects
# it.
MAX_OBJECTS = 2000
# Internal attributes of nn.Module. The search visits parameters, buffers and submodules by name.
_INTERNALS = frozenset(torch.nn.Module().__dict__)
# Objects that hold no tensors of a field, and objects with opaque contents.
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


# Marks pynode's own leaves inside a graph.
_OWN = "_pynode_own"


def own_leaf(x: Tensor) -> Tensor:
    """Make x, a tensor without a graph, a leaf of pynode. It does not count as a leaf of f."""
    setattr(x, _OWN, True)
    return x.requires_grad_()


class LostLeaves(RuntimeError):
    """The graph of f reached leaf tensors that are not among its parameters. leaves: these
    tensors."""

    def __init__(self, leaves: list[Tensor]) -> None:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        super().__init__(
            f"f used tensors that require a gradient (of shape {shapes}), but pynode did not find"
            " them when the solve began, so their gradient would be missing: pass them in args,"
            " make them parameters of f, or name them in params=[...]"
        )
        self.leaves = leaves

    def __reduce__(self) -> tuple:
        # By default pickle makes an exception from its message.
        return LostLeaves, (self.leaves,)


class Leaves(NamedTuple):
    """The tensors that the gradient of a solve reaches.

    args: of f. Leaves replace the tensors that require a gradient, so that no gradient passes
    through one parameter into another. parameters: the tensors to differentiate f in. grad_targets:
    the tensor that receives the gradient of each parameter. A tensor can appear twice, because it
    can reach f in two ways. spare: leaves within the reach of f that its first evaluation did not
    use. named: whether the user chose the parameters; pynode then ignores all others.
    """

    args: tuple
    parameters: list
    grad_targets: list
    spare: list
    named: bool

    @property
    def any(self) -> bool:
        """Whether f may depend on a tensor that requires a gradient."""
        return bool(self.parameters or self.spare)

    @property
    def inputs(self) -> list:
        """The tensors whose gradients the solve returns: the targets, then the spare leaves."""
        return [*self.grad_targets, *self.spare]

    def check(self, out: Tensor, inputs: Iterable[Tensor]) -> None:
        """Raise LostLeaves if the graph of out has other leaves than the inputs and the
        parameters."""
        if self.named:
            return
        expected = {id(x) for x in (*self.parameters, *inputs)}
        reached = leaves_of(out, inputs)
        lost = [leaf for leaf in reached if id(leaf) not in expected]
        if lost:
            raise LostLeaves(lost)

    def with_parameters(self, lost: list[Tensor]) -> Leaves:
        """The same with further leaves that f used. Raise LostLeaves if they are not spare."""
        spare = {id(leaf) for leaf in self.spare}
        if any(id(leaf) not in spare for leaf in lost):
            raise LostLeaves(lost)
        used = {id(leaf) for leaf in lost}
        rest = [leaf for leaf in self.spare if id(leaf) not in used]
        return self._replace(
            parameters=[*self.parameters, *lost],
            grad_targets=[*self.grad_targets, *lost],
            spare=rest,
        )

    def align(self, cotangents: Sequence[Tensor | None], inputs: Iterable[Tensor]) -> list:
        """Put the cotangents of the parameters in the order of the inputs of other Leaves. None for
        an input without one."""
        by_id = {id(p): g for p, g in zip(self.parameters, cotangents, strict=True)}
        return [by_id.get(id(p)) for p in inputs]


def no_leaves(args: tuple) -> Leaves:
    """The Leaves of a solve that makes no gradient."""
    return Leaves(args, [], [], [], True)


def find_leaves(
    f: Callable,
    args: tuple,
    module_state: ModuleState,
    evaluate: Callable[[tuple], tuple[Tensor, Tensor] | None],
    params: Iterable[Tensor] | None = None,
) -> Leaves:
    """The Leaves of f(t, y, *args).

    module_state: of f. evaluate(args): returns f at the start of the solve with its graph, and the
    state there; None if f refuses the start. params: the tensors that the user wants gradients of;
    None for all.
    """
    if not torch.is_grad_enabled():
        return no_leaves(args)
    args, copies = detach_args(args)
    pairs = [*copies, *module_state.copies]
    start = evaluate(args)
    if params is not None:
        return _named(args, pairs, params)
    replaced = {id(source) for _, source in module_state.copies}
    if isinstance(f, torch.nn.Module):
        own = list(f.parameters())
    else:
        own = []
    own = unique(p for p in own if p.requires_grad and id(p) not in replaced)
    parameters = [*own, *(copy for copy, _ in pairs)]
    sources = [*own, *(source for _, source in pairs)]
    seen = {id(p) for p in parameters}
    used = []
    # Before the search in the graph: this list keeps the tensors of TorchScript alive, so that they
    # count as held.
    within = reachable(f, args)
    if start is not None:
        out, y = start
        seen.add(id(y))
        used = [leaf for leaf in leaves_of(out) if id(leaf) not in seen]
        seen.update(id(leaf) for leaf in used)
    spare = [leaf for leaf in within if id(leaf) not in seen]
    return Leaves(args, [*parameters, *used], [*sources, *used], spare, False)


def _named(args, pairs, params):
    """The Leaves that the user chose. pairs: (copy, tensor) for tensors that f receives as
    copies."""
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


def detach_args(args: Any) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
    """Return (args with a leaf for each tensor that requires a gradient, [(leaf, tensor)])."""
    flat, spec = pytree.tree_flatten(args)
    copies = {}
    for x in flat:
        if isinstance(x, torch.Tensor) and x.requires_grad and id(x) not in copies:
            copies[id(x)] = x.detach().requires_grad_(), x
    if not copies:
        return args, []
    flat = [copies[id(x)][0] if id(x) in copies else x for x in flat]
    return pytree.tree_unflatten(flat, spec), list(copies.values())


def tensors_in(args: object) -> list:
    """The tensors in nested arguments."""
    return [x for x in pytree.tree_leaves(args) if isinstance(x, torch.Tensor)]


def unique(tensors: Iterable[Tensor]) -> list:
    """Each tensor once, in order."""
    return list({id(x): x for x in tensors}.values())


def leaves_of(out: Tensor, inputs: Iterable[Tensor] = ()) -> list:
    """The leaf tensors in the graph of out, without those behind the inputs.

    A leaf that f made and that no object holds does not count, because nobody can ask for its
    gradient. pynode's own leaves do not count either.
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
    """The number of references to a leaf that no object holds, as _leaves counts them."""
    with torch.enable_grad():
        out = torch.ones(1, requires_grad=True) * 2
    return next(count for _, count in _leaves(out, ()))


def _leaves(out, inputs):
    """Yield (leaf, references to it) for the leaf tensors in the graph of out."""
    stops = {(x.grad_fn, x.output_nr) for x in inputs if x.grad_fn is not None}
    seen = set()
    todo = [(out.grad_fn, out.output_nr)]
    while todo:
        edge = todo.pop()
        node = edge[0]
        if node is None or edge in stops or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            yield leaf, sys.getrefcount(leaf)
        todo.extend(node.next_functions)


def reachable(*roots: object) -> list:
    """The leaf tensors that functions, modules and containers can reach and that require a
    gradient."""
    by_id: dict[int, Tensor] = {}
    for x in held(*roots):
        if not x.requires_grad:
            continue
        if x.grad_fn is None:
            leaves = [x]
        else:
            leaves = leaves_of(x)
        by_id.update((id(leaf), leaf) for leaf in leaves)
    return list(by_id.values())


def held(*roots: object) -> Iterator[Tensor]:
    """The tensors that functions, modules and containers can reach.

    The search visits parameters, attributes, elements, closures, defaults, and the globals that a
    function names.
    """
    seen: set[int] = set()
    todo = list(roots)
    position = 0
    while position < len(todo) and position < MAX_OBJECTS:
        item = todo[position]
        position += 1
        if isinstance(item, _OPAQUE) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            yield item
            continue
        todo.extend(_within(item))


def _within(item):
    """The contents of an object."""
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
    cells = [cell_content(cell) for cell in function.__closure__ or ()]
    names = _names(function.__code__)
    own = [function.__globals__[name] for name in names if name in function.__globals__]
    defaults = (function.__defaults__, function.__kwdefaults__, function.__dict__)
    return (*cells, *own, *defaults)


def _names(code):
    """The global names in the code of a function and of the functions inside it."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def cell_content(cell: CellType) -> object:
    """The content of a closure's cell. None if its name is not bound yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
