"""The main job from end to end, as `make demo` runs it: learn Robertson's reaction from data, then
compare the methods.

    python examples/demo.py

The same as these commands, and a summary of what they found:

    pynode train examples/data/robertson.csv --out out/demo --hidden 16,16 --epochs 0 --polish 40
                 --rtol 1e-6 --max-steps 1500 --warm-start 1000 --candidates 2 --time-limit 150
                 --overwrite
    pynode compare out/demo/model.pt --out out/demo --max-nfe 20000
    pynode compare robertson --out out/demo --max-nfe 20000
"""

import csv
import sys
from pathlib import Path

from pynode.cli import main
from pynode.train import load_model, read_csv
from pynode.train.accuracy import accuracy

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out" / "demo"
DATA = ROOT / "examples" / "data" / "robertson.csv"
TRAIN = [
    str(DATA),
    "--hidden",
    "16,16",
    "--epochs",
    "0",
    "--polish",
    "40",
    "--rtol",
    "1e-6",
    "--max-steps",
    "1500",
    "--warm-start",
    "1000",
    "--candidates",
    "2",
    "--time-limit",
    "150",
    "--overwrite",
]
COMPARE = ["--out", str(OUT), "--max-nfe", "20000"]


def table(name):
    with open(OUT / name, newline="") as file:
        return list(csv.DictReader(file))


def evaluations(name):
    """One line a method: its evaluations at the middle tolerance."""
    rows = table(name)
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
    if code:
        sys.exit(code)


if __name__ == "__main__":
    run("1. Learn a stiff reaction from 50 observations", ["train", *TRAIN, "--out", str(OUT)])
    run("2. Solve what was learned with each method", ["compare", str(OUT / "model.pt"), *COMPARE])
    run("3. Solve the true reaction with each method", ["compare", "robertson", *COMPARE])

    print("\n== Summary")
    found = accuracy(load_model(OUT / "model.pt"), read_csv(DATA))
    print("  largest error at the 50 observations, of each species:")
    for name, whole, pointwise in zip(
        found.columns, found.of_largest, found.pointwise, strict=True
    ):
        print(
            f"    {name}   {100 * whole:.2g} % of its largest value; {100 * pointwise:.2g} % of"
            " values above 0.1 % of it"
        )
    print("  learned reaction, rtol 1e-5:")
    evaluations("compare-model.csv")
    print("  true reaction, rtol 1e-5:")
    evaluations("compare-robertson.csv")
    print(f"  to look at, in {OUT}:")
    for name, what in (
        ("fit.png", "observations and the learned solution"),
        ("loss.png", "the loss, epoch by epoch"),
        ("compare-model.png", "accuracy against work on the learned reaction"),
        ("compare-robertson.png", "the same on the true one"),
        ("compare-*.csv, history.csv", "the numbers behind the plots"),
        ("model.pt", "the model: pynode.train.load_model, or pynode compare"),
    ):
        print(f"    {name:<28}{what}")
