"""A learned field outside of pynode: the same numbers in a process without it."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from pynode.data import read
from pynode.train import Options, Scaling, export_program, write_pytorch
from pynode.train.known_laws import laws_of
from pynode.train.laws import Known
from pynode.train.model import build
from pynode.train.scaling import PhysicalField
from pynode.train.warp import Warp

T = [0.0, 1.0, 2.0, 3.0, 4.0]
TABLE = {"t": T, "a": [3.0, 2, 1.5, 1, 0.5], "b": [0, 1, 1.5, 2, 2.5], "u": [1, 1, 4, 4, 1]}
KINDS = {
    "kim": ({"scaling": "kim"}, ()),
    "decades": ({"activation": "tanh"}, ()),
    "time": ({"time_input": True}, ()),
    "inputs": ({"time_input": True}, ("u",)),
    "positive": ({"positive": ("a",)}, ("u",)),
    "warped": ({"scaling": "kim"}, ("u",)),
    "moves": ({"conserve": ("a+b",), "positive": ("a", "b"), "scaling": "kim"}, ("u",)),
    "gated moves": ({"conserve": ("a+b",), "positive": ("a",)}, ("u",)),
    "warped sum": ({"conserve": ("a+b",), "scaling": "kim"}, ("u",)),
    "conserved": ({"conserve": ("a+b",), "scaling": "kim"}, ("u",)),
}


def field(kind):
    given, inputs = KINDS[kind]
    data = read(TABLE, inputs=inputs, drop=() if inputs else ("u",))
    options = replace(Options(hidden=(5, 4)), **given)
    scaling = Scaling.of(data, options.scaling)
    if kind.startswith("warped"):
        scaling = replace(scaling, warp=Warp(("log", "arcsinh"), (0.5, 0.1)))
    architecture = {**options.architecture, **laws_of(options, data).as_dict()}
    scaled = build(architecture, scaling, torch.Generator().manual_seed(1))
    return PhysicalField(scaled, data.columns, data.trajectories[0].y[0], T)


def arguments(made, rows=4):
    generator = torch.Generator().manual_seed(2)
    found = [
        torch.rand(rows, dtype=torch.float64, generator=generator),
        torch.rand(rows, 2, dtype=torch.float64, generator=generator),
    ]
    if made.inputs:
        found.append(torch.rand(rows, 1, dtype=torch.float64, generator=generator))
    return found


def expected(made, t, y, u=None):
    rows = []
    for k in range(len(t)):
        one = made
        if u is not None:
            one = made.with_inputs(torch.tensor([-1.0, 9.0]).double(), u[k].expand(2, -1))
        rows.append(one(t[k], y[k]))
    return torch.stack(rows).detach()


CHECK = """
import sys
import torch
sys.modules["pynode"] = None  # an import of it would fail
sys.path.insert(0, sys.argv[1])
arguments = torch.load(sys.argv[1] + "/arguments.pt")
import field
program = torch.export.load(sys.argv[1] + "/field.pt2").module()
with torch.no_grad():
    found = [field.Field()(*arguments), program(*arguments)]
torch.save(found, sys.argv[1] + "/found.pt")
"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_need_no_pynode(tmp_path, kind):
    made = field(kind)
    write_pytorch(made, tmp_path / "field.py")
    export_program(made, tmp_path / "field.pt2")
    given = arguments(made)
    torch.save(given, tmp_path / "arguments.pt")
    subprocess.run([sys.executable, "-c", CHECK, str(tmp_path)], check=True, timeout=120)
    for found in torch.load(tmp_path / "found.pt"):
        assert torch.allclose(found, expected(made, *given), rtol=1e-12, atol=1e-14)


def test_a_known_part_is_exported_as_a_program_only(tmp_path):
    made = field("kim")
    made.field = build(
        Options(hidden=(5, 4)).architecture,
        replace(made.field.scaling, kind="kim"),
        torch.Generator().manual_seed(1),
        Known(lambda t, y: torch.stack((-y[0], y[0] * y[1])), 2),
    )
    made.field.gated = False
    with pytest.raises(ValueError, match="use export_program"):
        write_pytorch(made, tmp_path / "field.py")
    export_program(made, tmp_path / "field.pt2")
    program = torch.export.load(tmp_path / "field.pt2").module()
    given = arguments(made)
    with torch.no_grad():
        assert torch.allclose(program(*given), expected(made, *given))
