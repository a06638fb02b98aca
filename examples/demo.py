"""The main job from end to end, as `make demo` runs it: learn Robertson's reaction from data, then
compare the methods.

    python examples/demo.py

The same as these commands, and a summary of what they found:

    pynode train examples/data/robertson.csv --out out/demo --hidden 16,16 --epochs 0 --polish 150
                 --rtol 1e-6 --max-steps 1500 --warm-start 1000 --candidates 2 --time-limit 150
                 --overwrite
    pynode compare out/demo/model.pt --out out/demo --max-nfe 20000
    pynode compare robertson --out out/demo --max-nfe 20000

python examples/demo.py --help lists the options that make it shorter, or longer.
"""

import argparse
import csv
import sys
from pathlib import Path

from pynode.cli import main
from pynode.data import read
from pynode.train import load_model
from pynode.train.accuracy import accuracy

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "examples" / "data" / "robertson.csv"


def options():
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description="Learn Robertson's reaction from data, then compare the methods.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--hidden", default="16,16", help="widths of the hidden layers")
    parser.add_argument("--polish", type=int, default=150, help="epochs of Levenberg-Marquardt")
    parser.add_argument("--warm-start", type=int, default=1000, help="iterations before them")
    parser.add_argument("--rtol", type=float, default=1e-6, help="tolerance of the training")
    parser.add_argument(
        "--max-nfe", type=int, default=20000, help="evaluations that a method may use in a solve"
    )
    parser.add_argument(
        "--methods", default="fbdf,rodas5p,tsit5,dp5", help="the methods that are compared"
    )
    parser.add_argument(
        "--reference-rtol", default="1e-11,1e-10,1e-9", help="tolerances of the reference"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo", help="folder of results")
    return parser.parse_args()


def train_command(chosen):
    """The arguments of pynode train."""
    fixed = "--epochs 0 --max-steps 1500 --candidates 2 --time-limit 150 --overwrite"
    asked = (
        f"--hidden {chosen.hidden} --polish {chosen.polish} --rtol {chosen.rtol}"
        f" --warm-start {chosen.warm_start}"
    )
    out = ["--out", str(chosen.out)]
    return ["train", str(DATA), *asked.split(), *fixed.split(), *out]


def compare_command(target, chosen):
    """The arguments of pynode compare."""
    asked = (
        f"--methods {chosen.methods} --max-nfe {chosen.max_nfe}"
        f" --reference-rtol {chosen.reference_rtol}"
    )
    return ["compare", target, *asked.split(), "--out", str(chosen.out)]


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def evaluations(path):
    """One line a method: its evaluations at the middle tolerance."""
    rows = table(path)
    middle = sorted({float(row["rtol"]) for row in rows}, reverse=True)[1]
    for row in (row for row in rows if float(row["rtol"]) == middle):
        kind = "implicit" if row["implicit"] == "True" else "explicit"
        end = f"error {float(row['error']):.0e}"
        if row["finished"] != "True":
            end = f"gave up after {100 * float(row['reached']):.2g} % of the time span"
        work = f"{int(row['nfe']):>7,} evaluations  {float(row['seconds']):>6.2f} s"
        print(f"    {row['method']:<8} {kind}  {work}  {end}")


def run(title, arguments):
    print(f"\n== {title}\n   pynode {' '.join(arguments)}\n", flush=True)
    code = main(arguments)
    # 3: the run worked, and its verdict is that the field has not learned the data.
    if code not in (0, 3):
        sys.exit(code)


if __name__ == "__main__":
    chosen = options()
    out = chosen.out
    model = out / "model.pt"
    run("1. Learn a stiff reaction from 50 observations", train_command(chosen))
    run("2. Solve what was learned with each method", compare_command(str(model), chosen))
    run("3. Solve the true reaction with each method", compare_command("robertson", chosen))

    print("\n== Summary")
    found = accuracy(load_model(model), read(DATA))
    print("  largest error at the 50 observations, of each species:")
    for name, whole, pointwise in zip(
        found.columns, found.of_largest, found.pointwise, strict=True
    ):
        print(
            f"    {name}   {100 * whole:.2g} % of its largest value; {100 * pointwise:.2g} % of"
            " values above 0.1 % of it"
        )
    print("  learned reaction, rtol 1e-5:")
    evaluations(out / "compare-model.csv")
    print("  true reaction, rtol 1e-5:")
    evaluations(out / "compare-robertson.csv")
    print(f"  to look at, in {out}:")
    for name, what in (
        ("fit.png", "observations and the learned solution"),
        ("loss.png", "the loss, epoch by epoch"),
        ("compare-model.png", "accuracy against work on the learned reaction"),
        ("compare-robertson.png", "the same on the true one"),
        ("compare-*.csv, history.csv", "the numbers behind the plots"),
        ("model.pt", "the model: pynode.train.load_model, or pynode compare"),
    ):
        print(f"    {name:<28}{what}")
