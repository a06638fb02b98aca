"""Training a neural ODE on observations of a stiff system.

    data = read_csv("data.csv")                          # times, states, trajectories, missing values
    run = fit(data, Options(epochs=300), out="out")      # checkpoint.pt, model.pt, history.csv
    plot_fit("out/fit.png", run.field, data)
    field = load_model("out/model.pt")                   # dy/dt in the units of the data, with y0 and tspan
"""

from .data import DataError, Dataset, Trajectory, read_csv
from .idx import read_idx, read_mnist
from .loop import Fit, TrainingError, fit
from .model import ModelError, load_model
from .options import Options
from .progress import display
from .report import plot_fit, plot_loss
from .scaling import PhysicalField, ScaledField, Scaling

__all__ = [
    "DataError", "Dataset", "Fit", "ModelError", "Options", "PhysicalField", "ScaledField", "Scaling", "TrainingError",
    "Trajectory", "display", "fit", "load_model", "plot_fit", "plot_loss", "read_csv", "read_idx", "read_mnist",
]
