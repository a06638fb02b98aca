"""The benchmark of batches on a GPU: its table on the CPU, and that memory that runs out is a
row."""

import csv

import numpy as np
import pytest
import torch

from benchmarks import gpu


def run(folder, *options):
    gpu.main(
        [
            "--device",
            "cpu",
            "--no-diffrax",
            "--rounds",
            "1",
            "--systems",
            "robertson",
            "--out",
            str(folder),
            *options,
        ]
    )
    with open(folder / "gpu.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_table(tmp_path, capsys):
    rows = run(tmp_path, "--sizes", "4", "2", "--methods", "rodas5p", "--rtol", "1e-4")
    assert [(row["task"], row["rows"]) for row in rows] == [
        ("forward", "2"),
        ("forward", "4"),
        ("gradient", "2"),
        ("gradient", "4"),
    ]
    for row in rows:
        assert (
            row["failed"] == "0"
            and not row.get("note")
            and float(row["ms"]) > 0
            and float(row["rows/s"]) > 0
        )
    assert all(0 < float(row["error"]) < 100 for row in rows if row["task"] == "forward")
    assert "gradient\n" in capsys.readouterr().out


def test_memory_that_runs_out_is_a_row(tmp_path, monkeypatch):
    """On the device, beyond two rows: told there, and left out beyond."""
    forward = gpu.Pynode.forward

    def short(self):
        if len(self.y0) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return forward(self)

    monkeypatch.setattr(gpu.Pynode, "forward", short)
    monkeypatch.setattr(gpu.Pynode, "gradient", short)
    rows = run(tmp_path, "--sizes", "2", "3", "4", "--methods", "rodas5p", "--rtol", "1e-3")
    notes = {(row["task"], row["rows"]): row["note"] for row in rows}
    for task in ("forward", "gradient"):
        assert notes[task, "2"] == "" and notes[task, "3"] == "out of memory"
        assert notes[task, "4"] == "left out: a smaller batch ended early"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12 bytes"),
    ],
)
def test_memory_is_told_whoever_raised_it(error):
    assert gpu.reason(error) == "out of memory"


def test_other_failures_keep_their_name():
    assert gpu.reason(ValueError("no such solver\nand more")) == "ValueError: no such solver"


def test_a_slow_batch_ends_the_ladder(tmp_path):
    rows = run(
        tmp_path, "--sizes", "1", "2", "--methods", "rodas5p", "--rtol", "1e-3", "--limit", "0"
    )
    assert [row["note"] for row in rows if row["rows"] == "2"] == [
        "left out: a smaller batch ended early"
    ] * 2


def test_error_of_a_gradient_is_its_difference_from_diffrax():
    rows = [{"contestant": "qndf"}, {"contestant": gpu.PEER}]
    found = {"qndf": [np.array([1.0, 2.2])], gpu.PEER: [np.array([1.0, 2.0])]}
    gpu.describe(rows, found, None, "gradient")
    assert rows[0]["error"] == pytest.approx(0.1) and "error" not in rows[1]


def test_error_of_a_row_is_its_largest_in_units_of_the_tolerances():
    batch = gpu.batched.Batch(3, 0, 1.0, 1e-2)
    reference = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]]] * 2)
    states = reference.clone()
    states[1, 0, 0] += 0.0101  # the unit of 1 + 0.01
    states[0, 2, 1] += 0.0005  # atol is 1e-4
    assert batch.errors(states, reference) == pytest.approx({"error": 1.0, "worst": 5.0}, rel=1e-3)


def test_rows_that_did_not_arrive_are_counted():
    states = torch.zeros(3, 4, 2)
    states[-1, 1, 0] = states[-1, 3] = float("nan")
    assert gpu.Pynode._ended(states) == 2


def test_without_a_gpu_it_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--device cpu" in capsys.readouterr().err
