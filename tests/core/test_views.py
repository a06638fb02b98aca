"""A solution as arrays, tables and files, by the names of its components."""

import numpy as np
import pytest
import torch

import pynode
from pynode import Event, problems, solve

pandas = pytest.importorskip("pandas")
xarray = pytest.importorskip("xarray")

T = [0.0, 0.5, 1.0, 2.0]


def decay(t, y):
    return -y


def decaying(**options):
    start = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    return solve(decay, start, T, names=["a", "b"], **options)


def rows(t=T):
    start = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=torch.float64)
    return solve(decay, start, t, batched=True, names=["a", "b"])


def test_names_come_from_the_problem():
    solution = solve(problems.get("robertson"), t=[0.0, 1.0])
    assert solution.names == ("A", "B", "C")
    assert torch.equal(solution["C"], solution.y[:, 2])


def test_names_come_from_the_field():
    def field(t, y):
        return -y

    field.state_names = ["S", "P"]
    assert solve(field, [1.0, 2.0], T).names == ("S", "P")


def test_names_come_from_the_keys_of_a_dict():
    def field(t, y):
        return {"S": -y["S"], "heat": 0 * y["heat"]}

    solution = solve(field, {"heat": [1.0, 2.0], "S": 3.0}, T)
    assert solution.names == ("S", "heat[0]", "heat[1]")
    assert solution["heat"].shape == (4, 2)
    assert solution["heat[1]"].tolist() == [2.0] * 4


def test_states_without_names_have_places():
    assert solve(decay, [1.0, 2.0], T).names == ("y[0]", "y[1]")


def test_names_of_the_last_dimension_count_the_others():
    solution = solve(decay, [[1.0, 2.0], [3.0, 4.0]], T, names=["a", "b"])
    assert solution.names == ("a[0]", "b[0]", "a[1]", "b[1]")


def test_a_component_keeps_its_gradient():
    solution = decaying()
    solution["b"][-1].backward()


def test_unknown_names_get_a_suggestion():
    with pytest.raises(KeyError, match="did you mean 'predator'"):
        solve(problems.get("lotka_volterra"), t=[0.0, 1.0])["predtor"]


def test_a_number_of_names_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 names for 2 components"):
        solve(decay, [1.0, 2.0], T, names=["a", "b", "c"])


def test_a_name_twice_is_refused():
    with pytest.raises(ValueError, match="'a' more than once"):
        solve(decay, [1.0, 2.0], T, names=["a", "a"])


def test_a_failure_names_the_component():
    def explosion(t, y):
        return torch.stack((y[0] ** 2, 0 * y[1]))

    solution = solve(explosion, [1.0, 1.0], [0.0, 2.0], names=["heat", "mass"], throw=False)
    assert "heat" in str(solution.report())


def test_pandas():
    table = decaying().to_pandas()
    assert list(table.columns) == ["a", "b"]
    assert table.index.name == "t"
    assert np.allclose(table["b"], 2 * np.exp(-np.array(T)), rtol=1e-5)


def test_pandas_of_rows_leaves_out_what_a_row_did_not_reach():
    start = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    stop = Event(lambda t, y: y[..., 0] - 0.9, terminal=True)
    table = solve(decay, start, T, batched=True, events=stop, names=["a", "b"]).to_pandas()
    assert table.loc[0].index.tolist() == [0.0]
    assert table.loc[1].index.tolist() == [0.0, 0.5, 1.0]


def test_xarray_has_a_variable_for_each_name():
    data = decaying().to_xarray()
    assert set(data.data_vars) == {"a", "b"}
    assert data["a"].dims == ("t",)
    assert data.attrs["method"]


def test_xarray_of_rows_with_times_of_their_own():
    times = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    data = rows(times).to_xarray()
    assert data["a"].dims == ("output", "row")
    assert data["t"].shape == (2, 3)


def test_a_file_gives_the_solution_back(tmp_path):
    solution = decaying(events=Event(lambda t, y: y[0] - 0.5, name="half"))
    loaded = pynode.load(solution.save(tmp_path / "decay.npz"))
    assert torch.equal(loaded.y, solution.y.detach())
    assert loaded.names == solution.names
    assert loaded.status is solution.status
    assert loaded.stats == solution.stats
    assert loaded.reached == solution.reached
    (record,) = loaded.events
    assert record.name == "half"
    assert record.t == solution.events[0].t
    assert torch.equal(record.y, solution.events[0].y.detach())


def test_a_file_gives_nested_states_back(tmp_path):
    def field(t, y):
        return {"S": -y["S"], "pair": (y["pair"][1], y["pair"][0])}

    start = {"S": torch.ones(2, 2), "pair": (torch.ones(1), torch.zeros(1))}
    solution = solve(field, start, T, method="tsit5")
    loaded = pynode.load(solution.save(tmp_path / "nested.npz"))
    assert torch.equal(loaded.y["S"], solution.y["S"])
    assert torch.equal(loaded.y["pair"][1], solution.y["pair"][1])


def test_a_file_gives_rows_back(tmp_path):
    solution = rows()
    loaded = pynode.load(solution.save(tmp_path / "rows.npz"))
    assert torch.equal(loaded.y, solution.y)
    assert loaded.statuses == solution.statuses
    assert loaded.reached == solution.reached


def test_tables_for_other_programs(tmp_path):
    solution = decaying()
    text = pandas.read_csv(solution.save(tmp_path / "decay.csv"), index_col="t")
    assert np.allclose(text, solution.to_pandas())
    with pytest.raises(ValueError, match=r"ending '\.docx'"):
        solution.save(tmp_path / "decay.docx")
    with pytest.raises(ValueError, match=r"not decay\.csv"):
        pynode.load(tmp_path / "decay.csv")


def test_netcdf(tmp_path):
    pytest.importorskip("h5netcdf")
    solution = decaying()
    data = xarray.load_dataset(solution.save(tmp_path / "decay.nc"), engine="h5netcdf")
    assert np.allclose(data["b"], solution.y[:, 1].detach())


def test_a_foreign_file_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.ones(2))
    with pytest.raises(ValueError, match="not a solution that pynode saved"):
        pynode.load(tmp_path / "other.npz")


def test_resample_is_the_dense_output():
    solution = decaying(dense=True)
    other = solution.resample([0.25, 1.75])
    assert torch.equal(other.y, solution([0.25, 1.75]))
    assert solution.resample(5).t.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert other.y.requires_grad
    with pytest.raises(ValueError, match="dense=True"):
        decaying().resample(5)


def test_arrays_have_no_gradient():
    arrays = decaying().to_numpy()
    assert isinstance(arrays.y, np.ndarray)
    assert arrays.y.shape == (4, 2)
