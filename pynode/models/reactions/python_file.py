"""A model as a Python file with a torch module."""

from __future__ import annotations

from collections.abc import Mapping

from .description import description
from .records import START_OF_TIME, Network
from .symbols import TIME, at_start, symbol
from .torch_source import FunctionSource, literal

_WIDTH = 96

_FILE = '''"""The model {title} as a torch module.

{description}
"""

import torch

STATES = ({states})
CONSTANTS = {{
{constants}
}}


class {name}(torch.nn.Module):
    """dy/dt of {title}. y has the components STATES, and p has the components CONSTANTS."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.p = torch.nn.Parameter(torch.tensor(list(CONSTANTS.values()), dtype=dtype))

{field}

{start}
'''


def python_file(network: Network, values: Mapping[str, float]) -> str:
    """The text of the file. values: of the constants."""
    states = list(network.states)
    field = _source(network, "forward", "y", "t").text(
        [network.derivative(name) for name in states],
        [f"d{name}" for name in states],
    )
    start = _source(network, "initial", None, "t").text([symbol(at_start(name)) for name in states])
    components = ", ".join(f'"{name}"' for name in states)
    if len(states) == 1:
        components += ","
    constants = [f'    "{name}": {literal(repr(value))},' for name, value in values.items()]
    return _FILE.format(
        title=network.name,
        name=_class_name(network.name),
        description="\n".join(line.rstrip() for line in _description(network)),
        states=components,
        constants="\n".join(constants),
        field=_method(field, "self, t, y, p=None", "t = torch.as_tensor(t, dtype=y.dtype)"),
        start=_method(start, "self, p=None, t=0.0", "t = torch.as_tensor(t, dtype=p.dtype)"),
    )


def _description(network):
    lines = description(network).splitlines()
    if any(state.algebraic for state in network.states.values()):
        lines.append("Lines that begin with 0 are algebraic equations: solve needs mass=, with 0.")
    if network.events:
        lines.append("The events are not part of this file.")
    return lines


def _source(network, name, state, like):
    vectors = {"p": list(network.constants)}
    first_time = "t"
    if state is not None:
        vectors = {"y": list(network.states), **vectors}
        first_time = "torch.zeros_like(t)"
    return FunctionSource(
        name=name,
        vectors=vectors,
        times={TIME.name: "t", START_OF_TIME: first_time},
        definitions=network.definitions,
        arguments=("t", "y", "p"),
        like=like,
        first=network.constants,
        share=False,
    )


def _method(source, arguments, time):
    """A function as a method, with lines that prepare the arguments."""
    lines = source.splitlines()[1:]
    name = source[4 : source.index("(")]
    head = [
        f"def {name}({arguments}):",
        "    p = self.p if p is None else p",
        f"    {time}",
        "    if t.dim():",
        "        t = t[..., 0]",
    ]
    body = [part for line in lines for part in _wrapped(line)]
    return "\n".join("    " + line for line in [*head, *body])


def _wrapped(line):
    """A line. A long one is broken at the outermost signs or commas."""
    if len(line) <= _WIDTH:
        return [line]
    if line.lstrip().startswith("return"):
        return _broken_call(line)
    start = line.find(" = ") + 3
    parts = _split(line[start:], (" + ", " - "))
    if len(parts) == 1:
        return [line]
    return [f"{line[:start]}(", *(f"        {part.strip()}" for part in parts), "    )"]


def _broken_call(line):
    """A long return of torch.stack((...), dim=-1), a component a line."""
    first = line.index("(") + 1
    inner_start = line.index("(", first) + 1
    depth = 1
    end = inner_start
    while depth:
        depth += {"(": 1, ")": -1}.get(line[end], 0)
        end += 1
    parts = _split(line[inner_start : end - 1].rstrip(","), (", ",))
    inner = [f"            {part.strip().rstrip(',')}," for part in parts]
    return [
        line[:first],
        f"        {line[first:inner_start]}",
        *inner,
        "        ),",
        f"        {line[end:].lstrip(', ')[:-1]},",
        "    )",
    ]


def _split(text, signs):
    """A text cut before each of the signs outside brackets."""
    parts = []
    depth = 0
    begin = 0
    for i, letter in enumerate(text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(letter, 0)
        if depth == 0 and i > begin and text[i : i + len(signs[0])] in signs:
            cut = i
            if signs[0] == ", ":
                cut += 1
            parts.append(text[begin:cut])
            begin = cut
    parts.append(text[begin:])
    return parts


def _class_name(name):
    words = "".join(letter if letter.isalnum() else " " for letter in name).split()
    joined = "".join(word[:1].upper() + word[1:] for word in words) or "Model"
    if joined[0].isalpha():
        return joined
    return f"Model{joined}"
