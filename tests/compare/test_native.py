"""``compare`` with native code: the rows of the torch engine, and sentences for what it refuses."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from pynode import problems
from pynode.cli import main
from pynode.compare import compare, work
from pynode.compare.report_page import report

pytest.importorskip("numba")
pytest.importorskip("llvmlite")


class ByValue(nn.Module):
    """A field that asks for the value of a tensor."""

    def forward(self, t, y):
        if float(y[0]) > 0.5:
            return -y
        return -2 * y


def test_both_engines_take_the_same_steps():
    """Rounding tips some decisions of FBDF."""
    methods = ["fbdf", "rodas5p", "tsit5"]
    found = {}
    for backend in ("torch", "native"):
        found[backend] = compare("vanderpol", methods, [1e-4], 3000, backend=backend)
        assert found[backend].backend == backend
    for ours, native in zip(found["torch"].rows, found["native"].rows, strict=True):
        assert (native.method, native.finished) == (ours.method, ours.finished)
        assert native.accepted == pytest.approx(ours.accepted, rel=0.1)
        assert native.error == pytest.approx(ours.error, rel=0.5)
    assert "in native code" in found["native"].note
    assert "native" not in found["torch"].note


def test_the_reference_is_native_too():
    """Its error is then far below those of the rows."""
    result = compare("robertson", ["fbdf"], [1e-4, 1e-6], backend="native")
    loose, tight = result.rows
    assert result.reference == "Rodas5P at rtol 1e-11"
    assert tight.error < loose.error < 1e-2


def test_it_compiles_before_it_is_timed(monkeypatch):
    """One more solve of each method, to the first output."""
    spans = []
    real = work.solve_problem

    def spied(problem, times, *more, **options):
        spans.append(len(times))
        return real(problem, times, *more, **options)

    monkeypatch.setattr(work, "solve_problem", spied)
    compare("vanderpol", ["rodas5p"], [1e-3, 1e-4], backend="native")
    assert spans[0] == 2
    assert len(spans) == 3
    assert spans[1] == spans[2] > 2


def test_methods_without_native_code():
    with pytest.raises(ValueError, match="native engine has no AdamsPECE: choose"):
        compare("robertson", ["fbdf", "adamspece"], [1e-3], backend="native")


def test_fields_without_native_code():
    problem = replace(problems.get("robertson"), field=ByValue())
    with pytest.raises(ValueError, match="Python number"):
        compare(problem, ["fbdf"], [1e-3], backend="native")


def test_other_engines():
    with pytest.raises(ValueError, match="julia:NAME"):
        compare("robertson", ["fbdf"], [1e-3], backend="julia")


def test_the_command(capsys, tmp_path):
    arguments = ["compare", "vanderpol", "--rtol", "1e-3", "--backend", "native", "--json"]
    assert main([*arguments, "--methods", "fbdf", "--out", str(tmp_path)]) == 0
    (row,) = json.loads(capsys.readouterr().out)["vanderpol"]
    assert row["method"] == "FBDF" and row["finished"]
    assert main([*arguments, "--methods", "rkc", "--out", str(tmp_path)]) == 2
    assert "the native engine has no RKC" in capsys.readouterr().err


def test_the_page(tmp_path, figures):
    problem = problems.get("vanderpol")
    path = report(
        tmp_path / "page.html",
        {"vanderpol": problem},
        ["fbdf"],
        [1e-3],
        reference_rtols=[1e-9],
        backend="native",
    )
    assert "in native code" in path.read_text(encoding="utf-8")
    assert torch.isfinite(problem.y0).all()
