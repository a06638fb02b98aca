"""Tables as lines of text."""

from pynode.core.text_table import WIDTH, text_table

LONG = (
    "Solves the adjoint equation backward, and Gauss quadrature on its steps integrates [it]. " * 2
)


def test_columns_are_aligned_and_the_heads_underlined():
    lines = text_table([("name", "steps", "end"), ("FBDF", 12, "yes"), ("DP5", 1234, "no")])
    assert lines[0] == "name  steps  end"
    assert set(lines[1]) == {"-", " "}
    assert lines[2] == "FBDF     12  yes" and lines[3] == "DP5    1234  no"


def test_a_column_wraps_so_that_the_table_fits_a_terminal():
    lines = text_table([("name", "what it is"), ("gauss", LONG)], left=(0, 1), wrapped=1)
    assert max(map(len, lines)) <= WIDTH
    words = " ".join(line[5:].strip() for line in lines[2:])
    assert words.split() == LONG.split()


def test_nothing_is_cut_where_a_table_is_too_wide():
    names = ["x" * 50, "y" * 50]
    lines = text_table([("a", "b"), names])
    assert names[0] in lines[2] and names[1] in lines[2]
