"""Where the pictures of the examples go: the folder out of the repository. And their style: colours
that colour-blind people can distinguish, and legends that lie over no data."""

from pathlib import Path

from pynode.core.drawing.palette import COLOURS

BLUE, RED, GREEN, PINK, ORANGE = COLOURS[:5]
GREY = "0.5"
# Inches below axes for the numbers and the label.
ROOM = 0.4


def save(draw, name):
    """Write the figure that draw(pyplot) makes as out/NAME, and print the path; without matplotlib
    say what is missing."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        print(
            "The picture was left out, because matplotlib is not installed: pip install"
            " 'torch-stiff-ode[plot]'"
        )
        return
    path = Path(__file__).resolve().parent.parent / "out" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with pyplot.rc_context({"axes.prop_cycle": matplotlib.cycler(color=COLOURS)}):
        draw(pyplot).savefig(path, dpi=110)
    print(path)


def below(axes, columns=2):
    """A legend below the axes and their label, of everything there that has a label."""
    height = axes.get_window_extent().height / axes.figure.dpi
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -ROOM / height),
        ncols=columns,
        fontsize=8,
        frameon=False,
    )
