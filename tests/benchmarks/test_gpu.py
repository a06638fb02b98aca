"""The benchmark of batches on a GPU: its table on the CPU, and that memory that runs out is a
row."""

import csv
import json

import numpy as np
import pytest
import torch

from benchmarks import gpu

QUICK = ["--device", "cpu", "--no-diffrax", "--rounds", "1", "--systems", "robertson"]
QUICK += ["--methods", "rodas5p", "--rtol", "1e-3"]


def climbed(task, *options):
    """The rows of one contestant, in this process."""
    args = gpu.arguments([*QUICK, *options])
    return [row for row, _ in gpu.climb("rodas5p", "robertson", task, args)]


def test_table(tmp_path, capsys):
    """Each contestant in a process of its own; all that comes is in a file at once."""
    gpu.main([*QUICK, "--sizes", "4", "2", "--out", str(tmp_path)])
    with open(tmp_path / "gpu.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["rows"]) for row in rows] == [
        ("forward", "2"),
        ("forward", "4"),
        ("gradient", "2"),
        ("gradient", "4"),
    ]
    for row in rows:
        assert row["failed"] == "0" and not row.get("note")
        assert float(row["ms"]) > 0 and float(row["rows/s"]) > 0
    assert all(0 < float(row["error"]) < 100 for row in rows if row["task"] == "forward")
    assert "gradient\n" in capsys.readouterr().out
    lines = (tmp_path / "gpu.jsonl").read_text().splitlines()
    assert [json.loads(line)["ms"] for line in lines] == [float(row["ms"]) for row in rows]


def test_what_the_time_does_not_allow_is_left_out(tmp_path):
    gpu.main([*QUICK, "--sizes", "2", "--minutes", "0", "--out", str(tmp_path)])
    lines = (tmp_path / "gpu.jsonl").read_text().splitlines()
    assert [json.loads(line)["note"] for line in lines] == ["left out: the time is up"] * 2


def test_a_process_that_dies_is_told(tmp_path):
    args = gpu.arguments([*QUICK, "--sizes", "2"])
    rows = [row for row, _ in gpu.compete("rodas5p", "no system", "forward", QUICK, args, 60.0)]
    assert [row["note"] for row in rows] == ["the process ended with 1"]


def test_memory_that_runs_out_is_a_row(monkeypatch):
    """On the device, beyond two rows: told there, and left out beyond."""
    forward = gpu.Pynode.forward

    def short(self):
        if len(self.y0) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return forward(self)

    monkeypatch.setattr(gpu.Pynode, "forward", short)
    first, second, third = climbed("forward", "--sizes", "2", "3", "4")
    assert "note" not in first and second["note"] == "out of memory"
    assert third["note"] == "left out: a smaller batch ended early"


def test_jax_without_the_device_is_told(monkeypatch):
    """With the extra of the CUDA that torch has."""

    class Jax:
        @staticmethod
        def devices(kind):
            raise RuntimeError("Unknown backend")

    monkeypatch.setattr(gpu, "load", lambda: (None, Jax, None))
    for version in ("12", "13"):
        monkeypatch.setattr(torch.version, "cuda", f"{version}.0")
        with pytest.raises(
            RuntimeError, match=rf"JAX sees no GPU: pip install 'jax\[cuda{version}\]'"
        ):
            gpu.check_jax("cuda")


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


def test_a_slow_batch_ends_the_ladder():
    first, second = climbed("gradient", "--sizes", "1", "2", "--limit", "0")
    assert "note" not in first and second["note"] == "left out: a smaller batch ended early"


def test_error_of_a_gradient_is_its_difference_from_diffrax():
    args = gpu.arguments(QUICK)
    peers = {2: ({"ms": 4.0}, [np.array([1.0, 2.0])])}
    row = {"contestant": "qndf", "rows": 2, "task": "gradient", "ms": 2.0}
    gpu.describe(row, [np.array([1.0, 2.2])], peers, args)
    assert row["error"] == pytest.approx(0.1) and row["ratio"] == 0.5
    peer = {"contestant": gpu.PEER, "rows": 2, "task": "gradient"}
    gpu.describe(peer, peers[2][1], peers, args)
    assert "error" not in peer


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
