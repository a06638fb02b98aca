"""Draws the pictures of the documentation with the package itself, into docs/img.

python docs/pictures.py [NAME ...]        # all of the pages by default; a minute
python docs/pictures.py tutorial          # what the pages of the tutorial draw and print; a minute
python docs/pictures.py tutorial_petab    # the picture that the code of a page draws
python docs/pictures.py first_hour        # what the commands of first_hour.md drew into out, scaled
python docs/pictures.py demo pendulum     # what make demo and pendulum.py drew into out, scaled
"""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot
from notebooks import TUTORIAL, cells
from PIL import Image

from pynode import Event, problems, solve
from pynode.core.drawing.figures import entry, legend_below
from pynode.core.drawing.palette import COLOURS, look
from pynode.methods import registry

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "img"
BLUE, RED, GREEN, PINK = COLOURS[:4]
GREY = "0.6"


def relaxing(rate):
    """dy/dt = -rate (y - cos t): whatever y starts at, it is pulled to the slow curve cos t."""
    return lambda t, y: -rate * (y - torch.cos(t))


def limit():
    """Explicit and implicit Euler with the same steps, below and above the limit of stability, 2 /
    rate."""
    figure, axes = pyplot.subplots(1, 2, figsize=(9.2, 3.1), sharey=True, layout="constrained")
    fine, y0 = (
        torch.linspace(0, 1.5, 400, dtype=torch.float64),
        torch.tensor([0.2], dtype=torch.float64),
    )
    for axis, h in zip(axes, (0.03, 0.0416)):
        times = torch.arange(0, 1.5, h, dtype=torch.float64)
        axis.plot(fine, fine.cos(), color=GREY, lw=3, label="cos t")
        for method, colour, line in (("euler", RED, "s--"), ("impliciteuler", BLUE, "o-")):
            y = solve(relaxing(50.0), y0, times, method=method, step_size=h).y[:, 0]
            axis.plot(times, y, line, color=colour, ms=3, lw=1, label=registry.get(method).name)
        axis.set(title=f"h = {h:g}:  50 h = {50 * h:.3g}", xlabel="t", ylim=(-1, 3))
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("y")
    legend_below(figure, axes[0].get_legend_handles_labels()[0])
    return figure


def regions():
    """|R(z)| < 1, the numbers z = h lambda for which one step of y' = lambda y does not grow, found
    by taking that step."""
    x, y = torch.meshgrid(torch.linspace(-9, 5, 113), torch.linspace(-7, 7, 113), indexing="ij")
    z = torch.stack((x, y), -1).reshape(-1, 2).double()
    start = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(len(z), 2).contiguous()

    def rotating(t, u, z):
        """y' = z y in real and imaginary parts, a row for each z."""
        return torch.stack(
            (z[:, 0] * u[:, 0] - z[:, 1] * u[:, 1], z[:, 0] * u[:, 1] + z[:, 1] * u[:, 0]), 1
        )

    figure, axes = pyplot.subplots(1, 4, figsize=(11, 3), sharey=True)
    for axis, method in zip(axes, ("euler", "tsit5", "impliciteuler", "rodas5p")):
        # Poles of implicit methods lie in the right half plane: a row that fails there has grown.
        end = solve(
            rotating,
            start,
            (0.0, 1.0),
            method=method,
            step_size=1.0,
            batched=True,
            args=(z,),
            throw=False,
        ).y[-1]
        size = end.norm(dim=1).nan_to_num(nan=2.0, posinf=2.0).reshape(x.shape)
        colour = BLUE if registry.get(method).implicit else RED
        axis.contourf(x, y, size, levels=[0, 1], colors=[colour], alpha=0.45)
        axis.contour(x, y, size, levels=[1], colors=[colour], linewidths=1)
        axis.axhline(0, color="k", lw=0.6)
        axis.axvline(0, color="k", lw=0.6)
        axis.set(title=registry.get(method).name, xlabel="Re(h λ)", aspect="equal")
    axes[0].set_ylabel("Im(h λ)")
    return figure


def steps():
    """Robertson's reaction: the sizes of the steps that an explicit and an implicit method take."""
    problem = problems.get("robertson")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    grid = torch.cat((torch.zeros(1), torch.logspace(-5, 5, 200))).double()
    y = solve(problem.field, problem.y0, grid, method="fbdf", rtol=1e-6, atol=1e-10).y.detach()
    for i, (name, scale) in enumerate((("A", 1), ("B · 10⁴", 1e4), ("C", 1))):
        own = look(i)
        left.plot(grid[1:], scale * y[1:, i], color=own.colour, ls=own.dashes, label=name)
    left.set(xscale="log", xlabel="t (s)", ylabel="fraction", title="the solution")
    for method, colour, line, most in (("tsit5", RED, "--", 6000), ("fbdf", BLUE, "-", 10_000)):
        times = [0.0]
        end = solve(
            problem.field,
            problem.y0,
            problem.tspan,
            method=method,
            rtol=1e-6,
            atol=1e-10,
            throw=False,
            max_steps=most,
            callback=lambda t, y, stats, times=times: times.append(t),
        )
        sizes = [b - a for a, b in zip(times, times[1:])]
        label = f"{end.method}: {len(sizes):,} steps to t = {times[-1]:,.3g}"
        right.plot(times[1:], sizes, line, color=colour, lw=1.3, label=label)
    right.set(xscale="log", yscale="log", xlabel="t (s)", ylabel="step (s)")
    right.set_title("the size of the steps")
    for axis, columns in ((left, 3), (right, 1)):
        axis.grid(alpha=0.25)
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18), "frameon": False}
        axis.legend(ncols=columns, **place)
    return figure


def ladder():
    """Van der Pol's oscillator: what a solve asks of f as the stiffness mu grows, at one
    tolerance."""
    figure, axis = pyplot.subplots(figsize=(6.4, 3.4), layout="constrained")
    mus = [1, 3, 10, 30, 100, 300, 1000, 3000]
    for method, style in (
        ("tsit5", ("o--", RED)),
        ("rkc", ("s--", PINK)),
        ("fbdf", ("D-", BLUE)),
        ("rodas5p", ("^-", GREEN)),
    ):
        work = []
        for mu in mus:
            end = solve(
                lambda t, y, mu: torch.stack((y[1], mu * (1 - y[0] ** 2) * y[1] - y[0])),
                torch.tensor([2.0, 0.0], dtype=torch.float64),
                (0.0, 20.0),
                args=(torch.tensor(float(mu)),),
                method=method,
                rtol=1e-4,
                atol=1e-7,
                max_nfe=100_000,
                throw=False,
            )
            work.append(end.stats.nfe + 2 * end.stats.njac)
            if not end.success:
                break
        line = {"color": style[1], "ms": 5, "label": registry.get(method).name}
        reached = len(work)
        if not end.success:
            # An open symbol at the limit.
            reached -= 1
            axis.plot(
                mus[reached], work[-1], style[0][0], **(line | {"mfc": "white", "label": None})
            )
        axis.plot(mus[:reached], work[:reached], style[0], **line)
    axis.set(xscale="log", yscale="log", xlabel="mu", ylabel="evaluations of f to t = 20")
    axis.grid(alpha=0.25)
    handles, _ = axis.get_legend_handles_labels()
    handles.append(entry("stopped at 100,000", color=RED, marker="o", mfc="white", ls=""))
    legend_below(figure, handles)
    return figure


def circles():
    """The same field under another solver: y'' = -y, whose circle Euler's method makes a spiral."""
    figure, axes = pyplot.subplots(1, 3, figsize=(9.6, 3.2), sharey=True)
    times = torch.arange(0, 12.7, 0.3, dtype=torch.float64)
    for axis, method in zip(axes, ("euler", "impliciteuler", "tsit5")):
        options = {"step_size": 0.3} if "euler" in method else {"rtol": 1e-6}
        start = torch.tensor([1.0, 0.0], dtype=torch.float64)
        turning = solve(
            lambda t, y: torch.stack((-y[1], y[0])), start, times, method=method, **options
        )
        axis.plot(*turning.y.T, "o-", ms=2.5, lw=1, color=BLUE if method == "tsit5" else RED)
        axis.set(
            title=turning.method + (", steps of 0.3" if "step_size" in options else ", rtol 1e-6"),
            aspect="equal",
            xlabel="y₁",
        )
        axis.set(xlim=(-7, 7), ylim=(-7, 7))
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("y₂")
    return figure


def cycles():
    """The solution of solutions.md."""
    crossing = Event(lambda t, y: y[0] - 1.0, direction=1, name="prey rises over 1")
    return solve(problems.get("lotka_volterra"), dense=True, events=crossing)


def solution_time():
    """Solution.plot over the time."""
    return cycles().plot().figure


def solution_plane():
    """Solution.plot over another component."""
    return cycles().plot("predator", x="prey").figure


# What the commands of docs/first_hour.md draw into out.
FIRST_HOUR = {
    "first_hour_data": "data-fructose.png",
    "first_hour_fit": "fructose/fit.png",
    "first_hour_kinetics": "kinetics/fit.png",
}


def scaled(name):
    """The picture of an example, small: of those with several the fit."""
    pattern = "fit.png" if name in ("demo", "fit_arrhenius") else "*.png"
    (path,) = (ROOT / "out" / name).glob(pattern)
    make_small(path, name)


def make_small(path, name):
    """Write a picture to docs/img, 900 pixels wide."""
    from PIL import Image

    image = Image.open(path).convert("RGB")
    small = image.resize((900, round(image.height * 900 / image.width)), Image.Resampling.LANCZOS)
    few_colours(small, IMAGES / f"{name}.png")


def drawn_by_page(name):
    """The picture that the code of a tutorial writes."""
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S))
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"MPLBACKEND": "Agg"}
        subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
        few_colours(Image.open(Path(folder) / f"{name}.png"), IMAGES / f"{name}.png")


def draw(picture):
    figure = picture()
    save(figure, IMAGES / f"{picture.__name__}.png", 90)
    pyplot.close(figure)


def tutorial():
    """Runs the pages of the tutorial, draws their pictures, and writes what the blocks print into
    the pages."""
    for page in sorted(TUTORIAL.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            printed = run(page)
            os.chdir(ROOT)
        for (start, end), output in reversed(printed):
            text = f"{text[:start]}\n\n```text\n{output}\n```{text[end:]}"
        page.write_text(text, encoding="utf-8")


def run(page):
    """Runs the blocks of a page. Returns the place and the text of each output. The picture of a
    block is the figure that it drew last."""
    names = {"__name__": "__main__"}
    printed = []
    for cell in cells(page):
        if cell.kind != "code":
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            exec(compile(cell.source, str(page), "exec"), names)
        lines = [line.rstrip() for line in out.getvalue().strip("\n").splitlines()]
        if lines:
            printed.append((cell.place, "\n".join(lines)))
        if cell.picture is not None:
            save(pyplot.gcf(), cell.picture)
            pyplot.close("all")
    return printed


def save(figure, path, dpi=110):
    """The figure as a file of few colours."""
    if figure.get_layout_engine() is None:
        figure.tight_layout()
    whole = io.BytesIO()
    figure.savefig(whole, dpi=dpi)
    few_colours(Image.open(whole), path)


def few_colours(image, path):
    """Write an image as a small file. MAXCOVERAGE keeps the colours of thin lines apart, where the
    default would make blue and green lines the same; k-means keeps the colours of large areas."""
    method = Image.Quantize.MAXCOVERAGE
    image.convert("RGB").quantize(256, method=method, kmeans=2).save(path, optimize=True)


PICTURES = (limit, regions, steps, ladder, circles, solution_time, solution_plane)

if __name__ == "__main__":
    torch.set_num_threads(1)
    own = {f.__name__: f for f in PICTURES}
    for name in sys.argv[1:] or own:
        if name in own:
            draw(own[name])
        elif name == "tutorial":
            tutorial()
        elif name.startswith("tutorial_"):
            drawn_by_page(name)
        elif name == "first_hour":
            for picture, path in FIRST_HOUR.items():
                make_small(ROOT / "out" / path, picture)
        else:
            scaled(name)
        print(f"drawn: {name}")
