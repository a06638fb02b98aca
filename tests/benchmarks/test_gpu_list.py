"""The list for a first GPU: each stage has a time of its own, and nothing that was printed is lost."""

import json

import pytest

from benchmarks import gpu_checks, gpu_list

LONG = (
    "timeit",
    "-n",
    "1",
    "-r",
    "1",
    "print('begun', flush=True)",
    "__import__('time').sleep(60)",
)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def record(tmp_path):
    return gpu_list.Record(tmp_path / "list.jsonl")


def test_what_a_stage_prints_is_kept(record, tmp_path, capsys):
    command = ("platform",)
    assert gpu_list.run(gpu_list.Stage("short", 60, command, command), "cpu", record)
    *printed, end = lines(tmp_path / "list.jsonl")
    assert printed[0]["line"] in capsys.readouterr().out
    assert end["outcome"] == "done"


def test_a_stage_that_hangs_is_stopped_and_keeps_its_lines(record, tmp_path):
    assert not gpu_list.run(gpu_list.Stage("long", 3, LONG, LONG), "cpu", record)
    *printed, end = lines(tmp_path / "list.jsonl")
    assert [line["line"] for line in printed] == ["begun"]
    assert end["outcome"] == "stopped: its time was over"


def test_a_stage_that_fails_does_not_end_the_list(monkeypatch, tmp_path):
    stages = (
        gpu_list.Stage("wrong", 60, ("no_such_module",), ("no_such_module",)),
        gpu_list.Stage("right", 60, ("platform",), ("platform",)),
    )
    monkeypatch.setattr(gpu_list, "STAGES", stages)
    assert gpu_list.main(["--device", "cpu", "--out", str(tmp_path)]) == 1
    ends = {
        line["stage"]: line["outcome"]
        for line in lines(tmp_path / "gpu_list.jsonl")
        if "outcome" in line
    }
    assert ends == {"wrong": "ended with 1", "right": "done"}


@pytest.mark.parametrize("check", ["synchronisations", "operations", "profile"])
def test_checks_run_in_small(check, capsys):
    gpu_checks.main([check, "--device", "cpu"])
    assert check in capsys.readouterr().out


def test_every_stage_names_something_that_is_there():
    for stage in gpu_list.STAGES:
        for command in (stage.command, stage.small):
            if command[0] == "benchmarks.gpu_checks":
                assert command[1] in gpu_checks.CHECKS
            elif command[0] == "pytest":
                assert (gpu_list.ROOT / command[-1]).exists()
            else:
                assert command[0] == "benchmarks.gpu"
