"""Files of other formats, packed files, folders, the standard input, and objects of Python: all
hold the same data as a CSV file."""

import bz2
import gzip
import io
import lzma

import numpy as np
import pytest
import torch

from pynode.data import DataError, dataset, read

pd = pytest.importorskip("pandas")
T = [0.0, 0.5, 1.0, 2.0]
A = [1.0, 0.5, 0.25, 0.125]
B = [3.0, np.nan, 2.0, 1.0]
TEXT = b"time,a,b\n0.0,1.0,3.0\n0.5,0.5,\n1.0,0.25,2.0\n2.0,0.125,1.0\n"


@pytest.fixture
def frame():
    return pd.DataFrame({"time": T, "a": A, "b": B})


def is_the_table(data, units=("", "")):
    (run,) = data.trajectories
    assert data.columns == ("a", "b") and data.units == units
    assert run.t.tolist() == T and run.y[:, 0].tolist() == A
    assert run.seen[:, 1].tolist() == [True, False, True, True]
    return True


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_packed_files(tmp_path, pack):
    path = tmp_path / "data.csv"  # the content tells, not the name
    path.write_bytes(pack(TEXT))
    assert is_the_table(read(path))


def test_damaged_packed_file(tmp_path):
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress(TEXT)[:-9])
    with pytest.raises(DataError, match="is packed, and damaged"):
        read(path)


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(TEXT))))
    assert is_the_table(read("-"))


def test_files_of_a_folder_are_trajectories(tmp_path):
    for k in (10, 2):
        (tmp_path / f"run{k}.csv").write_text(f"t,a\n0,{k}\n1,1\n")
    (tmp_path / "notes.md").write_text("not a table")
    data = read(tmp_path)
    assert [run.name for run in data.trajectories] == ["run2", "run10"]
    assert [float(run.y[0, 0]) for run in data.trajectories] == [2, 10]
    (tmp_path / "run3.csv").write_text("t,a\n0,3\n1,x\n")
    with pytest.raises(DataError, match="run3, line 3, column 'a': 'x' is not a finite number"):
        read(tmp_path)
    (tmp_path / "run3.csv").write_text("t,c\n0,3\n1,2\n")
    with pytest.raises(DataError, match="run3 has the columns t, c, but run2 has t, a"):
        read(tmp_path)


def test_parquet(tmp_path, frame):
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "data.parquet")
    assert is_the_table(read(tmp_path / "data.parquet"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(tmp_path / "bad.parquet")


def test_excel(tmp_path, frame):
    pytest.importorskip("openpyxl")
    path = tmp_path / "data.xlsx"
    frame.to_excel(path)  # with pandas' index, a column without a name
    assert is_the_table(read(path))
    with pd.ExcelWriter(path) as book:
        frame.to_excel(book, sheet_name="one", index=False)
        frame.to_excel(book, sheet_name="two", index=False)
    assert [run.name for run in read(path).trajectories] == ["one", "two"]
    frame.assign(b=["3", "--", "x", "1"]).to_excel(path, index=False)
    with pytest.raises(DataError, match="row 4, column 'b': 'x' is not a finite number"):
        read(path)


def test_netcdf_keeps_units_and_dimensions(tmp_path, frame):
    xarray = pytest.importorskip("xarray")
    data = frame.set_index("time").to_xarray()
    data["a"].attrs["units"] = "mmol/L"
    data["time"].attrs["units"] = "h"
    read_back = read(data)
    assert is_the_table(read_back, ("mmol/L", "")) and read_back.time_unit == "h"
    pytest.importorskip("h5netcdf")
    data.to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    assert is_the_table(read(tmp_path / "data.nc"), ("mmol/L", ""))
    levels = np.arange(24.0).reshape(3, 4, 2)
    levels[1, 3] = np.nan
    array = xarray.DataArray(levels, dims=("run", "time", "x"), coords={"time": T}, name="c")
    many = read(array)
    assert many.columns == ("c(0)", "c(1)")
    assert [len(run.t) for run in many.trajectories] == [4, 3, 4]
    assert many.trajectories[2].y[1].tolist() == [18, 19]


def test_dates_of_xarray():
    xarray = pytest.importorskip("xarray")
    dates = np.datetime64("2024-01-01T06:00") + np.arange(4) * np.timedelta64(1, "h")
    data = read(xarray.DataArray(A, dims="date", coords={"date": dates}, name="a"))
    assert data.time == "date [h]" and data.trajectories[0].t.tolist() == [0, 1, 2, 3]


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["time"] = T
        file["a"] = A
        file["b"] = B
        file["a"].attrs["units"] = "K"
    assert is_the_table(read(tmp_path / "one.h5"), ("K", ""))
    with h5py.File(tmp_path / "two.h5", "w") as file:
        for name in ("first", "second"):
            file[f"{name}/t"] = T
            file[f"{name}/y"] = np.stack([A, T], 1)
    data = read(tmp_path / "two.h5")
    assert data.columns == ("y[0]", "y[1]")
    assert [run.name for run in data.trajectories] == ["first", "second"]


def test_numpy_archive(tmp_path):
    np.savez(tmp_path / "data.npz", time=T, a=A, b=B)
    assert is_the_table(read(tmp_path / "data.npz"))
    np.save(tmp_path / "bare.npy", np.zeros((4, 2)))
    with pytest.raises(DataError, match="an array whose columns have no names"):
        read(tmp_path / "bare.npy")


def test_objects_of_python(frame):
    assert is_the_table(read(frame))
    assert is_the_table(read(frame.set_index("time")))
    assert is_the_table(read({"time": T, "a": torch.tensor(A, dtype=torch.float64), "b": B}))
    assert is_the_table(read(frame.to_records(index=False)))
    runs = read({"x": frame, "y": {"time": T, "a": B[::-1], "b": T}}, drop=("b",))
    assert [run.name for run in runs.trajectories] == ["x", "y"]
    with pytest.raises(DataError, match="different lengths, time 4, a 3"):
        read({"time": T, "a": A[:3]})
    with pytest.raises(DataError, match=r"the table, row 2, column 'a': 'inf' is not a finite"):
        read({"time": T, "a": [1, np.inf, 2, 3]})
    with pytest.raises(DataError, match=r"take dataset\(t, y\)"):
        read(np.zeros((4, 2)))


def test_a_table_is_not_changed(frame):
    before = frame.copy()
    run = read(frame).trajectories[0]
    run.t[0] = 7.0
    run.y[0] = 7.0
    pd.testing.assert_frame_equal(frame, before)


def test_arrays_as_a_dataset():
    data = dataset(T, np.stack([A, B], 1), ("a", "b"))
    assert is_the_table(data, ())
    with pytest.raises(DataError, match="give increasing times"):
        dataset(T[::-1], np.zeros((4, 1)))
    with pytest.raises(DataError, match="every state needs a value after the start"):
        dataset(T, [[1.0], [np.nan], [np.nan], [np.nan]])
