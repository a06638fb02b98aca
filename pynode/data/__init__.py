"""Reads observations of physical systems from files and tables, whatever their form.

data = read("data.csv", inputs=("u_flow",), errors=("level_sd",))
data.notes                    # what was understood, a sentence each
data.trajectories[0].y        # (T, n) states, zero where missing
"""

from .dataset import DataError, Dataset, Repeats, Trajectory, dataset
from .read import read

__all__ = ["DataError", "Dataset", "Repeats", "Trajectory", "dataset", "read"]
