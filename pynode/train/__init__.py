"""Trains a neural ODE on observations of a stiff system.

    data = pynode.data.read("data.csv")              # times, states, trajectories, missing values
    run = fit(data, Options(epochs=300), out="out")  # checkpoint.pt, model.pt, history.csv
    plot_fit("out/fit.png", run.field, data)
    field = load_model("out/model.pt")               # dy/dt in the units of the data

The pieces for your own module and loop (docs/training.md) are ``Scaling`` and ``ScaledField``,
``log_times`` and ``sample_times``, ``slopes`` and ``collocation``, ``multiple_shooting``,
``normalise_gradients``, ``EarlyStopping``, ``LevenbergMarquardt``.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazily

if TYPE_CHECKING:
    from .attempts import fit_best
    from .collocate import Slopes, collocation, slopes
    from .export import export_program, write_pytorch
    from .gradients import normalise_gradients
    from .least_squares import LevenbergMarquardt
    from .loop import Fit, fit
    from .model import ModelError, load_model
    from .options import Options
    from .progress import display
    from .report import plot_fit, plot_loss
    from .scaling import PhysicalField, ScaledField, Scaling
    from .shooting import multiple_shooting
    from .start import TrainingError
    from .stopping import EarlyStopping
    from .sweeps import sweep
    from .synthetic import observe
    from .times import log_times, sample_times
    from .trackers import TRACKERS, Tracked, tracked
    from .understanding import Understanding, understand
    from .verdict import StateVerdict, Verdict, judge

__all__ = [
    "TRACKERS",
    "EarlyStopping",
    "Fit",
    "LevenbergMarquardt",
    "ModelError",
    "Options",
    "PhysicalField",
    "ScaledField",
    "Scaling",
    "Slopes",
    "StateVerdict",
    "Tracked",
    "TrainingError",
    "Understanding",
    "Verdict",
    "collocation",
    "display",
    "export_program",
    "fit",
    "fit_best",
    "judge",
    "load_model",
    "log_times",
    "multiple_shooting",
    "normalise_gradients",
    "observe",
    "plot_fit",
    "plot_loss",
    "sample_times",
    "slopes",
    "sweep",
    "tracked",
    "understand",
    "write_pytorch",
]

# Everything is loaded at its first use, because the command line reads only the options here.
_PLACES = {
    "attempts": ("fit_best",),
    "collocate": ("Slopes", "collocation", "slopes"),
    "export": ("export_program", "write_pytorch"),
    "gradients": ("normalise_gradients",),
    "least_squares": ("LevenbergMarquardt",),
    "loop": ("Fit", "fit"),
    "model": ("ModelError", "load_model"),
    "options": ("Options",),
    "progress": ("display",),
    "report": ("plot_fit", "plot_loss"),
    "scaling": ("PhysicalField", "ScaledField", "Scaling"),
    "shooting": ("multiple_shooting",),
    "start": ("TrainingError",),
    "stopping": ("EarlyStopping",),
    "sweeps": ("sweep",),
    "synthetic": ("observe",),
    "times": ("log_times", "sample_times"),
    "trackers": ("TRACKERS", "Tracked", "tracked"),
    "understanding": ("Understanding", "understand"),
    "verdict": ("StateVerdict", "Verdict", "judge"),
}
__getattr__, __dir__ = lazily(__name__, _PLACES)
