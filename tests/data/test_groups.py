"""Which rows are one trajectory, where nobody says so."""

import pytest

from pynode.data import DataError, read


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "data.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def names(data):
    return [run.name for run in data.trajectories]


def test_text_is_taken_where_the_time_starts_again(write):
    data = read(write("run,time,A\nr0,0,1\nr0,1,2\nr1,0,3\nr1,1,4\n"))
    assert names(data) == ["r0", "r1"] and data.columns == ("A",)
    assert [run.y[:, 0].tolist() for run in data.trajectories] == [[1, 2], [3, 4]]
    assert any("'run' names 2 trajectories" in note for note in data.notes)


def test_the_finest_text_is_taken_and_what_follows_from_it_is_left_out(write):
    text = "drug,who,t,A\nx,a,0,1\nx,a,1,2\nx,b,0,3\nx,b,1,4\ny,c,0,5\ny,c,2,6\n"
    data = read(write(text))
    assert names(data) == ["a", "b", "c"] and data.columns == ("A",)


def test_text_that_is_the_same_throughout_is_left_out(write):
    data = read(write("t,A,site\n0,1,north\n1,2,north\n2,3,north\n3,4,north\n"))
    assert data.columns == ("A",) and any("'north' throughout" in note for note in data.notes)


@pytest.mark.parametrize(
    "text",
    [
        "t,A,phase\n0,1,lag\n1,2,lag\n2,3,growth\n3,4,growth\n",  # one run with remarks
        "t,A,phase\n0,1,x\n0,2,y\n1,3,x\n1,4,y\n",  # not in blocks
    ],
)
def test_other_text_is_offered_by_a_sentence(write, text):
    with pytest.raises(DataError) as error:
        read(write(text))
    assert "--group phase" in str(error.value) and "--drop phase" in str(error.value)
    assert read(write(text), drop=("phase",)).columns == ("A",)


@pytest.mark.parametrize(
    "text",
    [
        "id,t,A\n1,0,1\n1,1,2\n2,0,3\n2,1,4\n",
        "t,A,id\n0,1,1\n0,3,2\n1,2,1\n1,4,2\n",  # sorted by time
        "t,A,k\n0,1,1\n1,2,1\n0,3,2\n1,4,2\n",  # without a telling name, but in blocks
    ],
)
def test_whole_numbers_are_taken_where_only_they_make_times_increase(write, text):
    data = read(write(text))
    assert names(data) == ["1", "2"] and data.columns == ("A",)
    assert [run.y[:, 0].tolist() for run in data.trajectories] == [[1, 2], [3, 4]]


def test_whole_numbers_are_states_where_times_increase(write):
    data = read(write("t,A,id\n0,1,1\n1,2,1\n2,3,2\n3,4,2\n"))
    assert names(data) == [""] and data.columns == ("A", "id")


def test_names_are_read_as_they_are_written(write):
    text = "no,t,A\n01,0,1\n01,1,2\nNA,0,3\nNA,1,4\n"
    assert names(read(write(text), group="no")) == ["01", "NA"]


def test_two_ways_to_divide_the_rows_are_not_chosen_from(write):
    text = "run,id,t,A\n1,5,0,1\n1,5,1,2\n2,6,0,3\n2,6,1,4\n"
    with pytest.raises(
        DataError, match="comes after 1; sort the lines by time, or name the column"
    ):
        read(write(text))
