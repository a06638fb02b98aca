"""Scalar expressions as Python source: plain statements on numbers, for numba and its kin.

The function takes t, and arrays y, v, inputs (one flat array for each target), out and work. It
calls nothing but the mathematics library, so numba compiles it for processors and for GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .expressions import BOOL, Expressions, TablePick, TableSearch
from .llvm import reachable

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "pow": "**",
    "and": "and",
    "or": "or",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}
# Names that math has otherwise, or not.
_CALLS = {"abs": "math.fabs({0})", "exp2": "2.0 ** {0}", "round": "float(round({0}))"}
_CALLS["floor"] = "float(math.floor({0}))"
_CALLS["ceil"] = "float(math.ceil({0}))"
_CALLS["trunc"] = "float(math.trunc({0}))"
_CALLS["neg"] = "-{0}"
_CALLS["not"] = "not {0}"
_CALLS["real"] = "1.0 if {0} else 0.0"
_CALLS["une"] = "{0} != {0} or {1} != {1}"
_CALLS["select"] = "{1} if {0} else {2}"


def python_function(
    name: str, pool: Expressions, outs: Sequence[int], targets: int, added: range = range(0)
) -> str:
    """The source of a function that writes these expressions to out.

    targets: how many input arrays the function takes after v, as input0, input1, ... added: the
    places in out to which expressions are added.
    """
    inputs = [f"input{i}" for i in range(targets)]
    arguments = ", ".join(["t", "y", "v", *inputs, "out", "work"])
    lines = [f"def {name}({arguments}):"]
    for x in reachable(pool, outs):
        node = pool.nodes[x]
        if node[0] == "const":
            continue
        if isinstance(node[0], TableSearch):
            lines += _searched(x, node[0], _operand(pool, node[1]))
            continue
        text = _loaded(node) if node[0] == "load" else _operation(pool, node)
        lines.append(f"    x{x} = {text}")
    for place, x in enumerate(outs):
        sign = "+=" if place in added else "="
        lines.append(f"    out[{place}] {sign} {_operand(pool, x)}")
    if not outs:
        lines.append("    return")
    return "import math\n\n\n" + "\n".join(lines) + "\n"


def _loaded(node: tuple) -> str:
    if node[1] == "t":
        return "t"
    if node[1] == "inputs":
        index, place = node[2]
        return f"input{index}[{place}]"
    return f"{node[1]}[{node[2]}]"


def _operand(pool: Expressions, x: int) -> str:
    value = pool.value(x)
    if value is None:
        return f"x{x}"
    if pool.kinds[x] == BOOL:
        return str(bool(value))
    if math.isnan(value):
        return "math.nan"
    if math.isinf(value):
        return "math.inf" if value > 0 else "(-math.inf)"
    return f"({float(value)!r})"


def _operation(pool: Expressions, node: tuple) -> str:
    operands = [_operand(pool, x) for x in node[1:]]
    if isinstance(node[0], TablePick):
        return _picked(node[0], operands[0])
    infix = _INFIX.get(node[0])
    if infix is not None:
        return f"{operands[0]} {infix} {operands[1]}"
    call = _CALLS.get(node[0])
    if call is not None:
        return call.format(*operands)
    return f"math.{node[0]}({', '.join(operands)})"


def _searched(x: int, table: TableSearch, found: str) -> list[str]:
    """The lines that set x to the place in a sorted table."""
    compare = ">" if table.right else ">="
    return [
        f"    low{x} = 0",
        f"    high{x} = {table.count}",
        f"    while low{x} < high{x}:",
        f"        mid{x} = low{x} + (high{x} - low{x}) // 2",
        f"        if input{table.index}[{table.offset} + {table.step} * mid{x}] {compare} {found}:",
        f"            high{x} = mid{x}",
        "        else:",
        f"            low{x} = mid{x} + 1",
        f"    x{x} = float(low{x})",
    ]


def _picked(table: TablePick, place: str) -> str:
    """The number of a table at a place."""
    outside = "math.nan" if table.outside == "nan" else table.outside
    at = f"input{table.index}[{table.offset} + {table.step} * int({place})]"
    return f"{at} if 0.0 <= {place} < {float(table.extent)} else {outside}"
