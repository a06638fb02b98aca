"""The benchmark of ignition, in its quickest setting."""

import pytest

from benchmarks import ignition

pytest.importorskip("cantera", reason="mechanisms need cantera")
pytest.importorskip("numba", reason="the native engine needs numba")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hydrogen(monkeypatch, capsys):
    monkeypatch.setattr(ignition, "RTOLS", (1e-5, 1e-8))
    monkeypatch.setattr(ignition, "CANTERA_RTOLS", (1e-7,))
    monkeypatch.setattr(ignition, "METHODS", ("fbdf",))
    ignition.main(["--mechanisms", "h2o2", "--rounds", "1"])
    said = capsys.readouterr().out
    assert said.count("| 1e-07 |") == 2
    assert "nan" not in said
    assert said.count("| fbdf |") == 4


def test_the_time_at_an_error():
    """On the line through the logarithms; outside of the errors there is none."""
    points = [(1.0, 1e-2), (4.0, 1e-4)]
    assert ignition.time_at(points, 1e-3) == pytest.approx(2.0)
    assert ignition.time_at(points, 1e-4) == pytest.approx(4.0)
    assert ignition.time_at(points, 1e-5) is None
