"""What a matplotlib figure shows."""


def curves(axis):
    """{label: [(x, y), ...]} of the lines of a panel that a legend names."""
    return {
        line.get_label(): [tuple(map(float, point)) for point in line.get_xydata()]
        for line in axis.lines
        if not line.get_label().startswith("_")
    }


def count(axis):
    """The number of points in all lines of a panel."""
    return sum(len(line.get_xydata()) for line in axis.lines)
