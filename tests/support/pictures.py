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


def crosses(axis):
    """[(x, y), ...] of the ends of solves that failed."""
    return [
        tuple(map(float, point))
        for line in axis.lines
        if line.get_marker() == "X"
        for point in line.get_xydata()
    ]


def legends(figure):
    """All legends, of the figure and of its panels."""
    own = [axis.get_legend() for axis in figure.axes]
    return [*figure.legends, *(legend for legend in own if legend is not None)]


def words(figure):
    """The lines of all legends, each as one line."""
    return [
        text.get_text().replace("\n", " ")
        for legend in legends(figure)
        for text in legend.get_texts()
    ]


def check_legends(figure):
    """Every legend lies within the picture and over no panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    whole = figure.bbox.padded(1.0)
    assert legends(figure)
    for legend in legends(figure):
        box = legend.get_window_extent()
        assert whole.containsx(box.x0) and whole.containsx(box.x1)
        assert whole.containsy(box.y0) and whole.containsy(box.y1)
        for axis in figure.axes:
            assert not box.padded(-0.5).overlaps(axis.get_window_extent())
