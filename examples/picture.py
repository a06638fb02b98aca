"""Where the pictures of the examples go: the folder out of the repository."""

from pathlib import Path


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
    draw(pyplot).savefig(path, dpi=110)
    print(path)
