"""Estimation of parameters: optimum, intervals and what the data do not determine.

    problem = TableProblem(model, "data.csv", bounds={"k": (1e-3, 1e3)})
    found = estimate(problem, starts=20)
    print(found)                    # the optimum, intervals, and what is not determined
    profile(found)                  # intervals by profile likelihood
    save_results(found, "out")
    save_pictures(found, "out")

``pynode fit`` does the same (docs/fitting.md). It needs the extra ``fit``.
"""

from ..core.parameter_info import ParameterInfo, Prior
from .fisher import Interval
from .multistart import estimate
from .pictures import plot_fit, plot_profiles, plot_waterfall
from .prediction_bands import Bands, bands, predictions
from .profiles import Profile, profile
from .progress import display
from .protocol import EstimationProblem, Predictions
from .report import save_pictures, save_results
from .result import Estimate, Start
from .samples import Samples, sample
from .table_problem import TableProblem
from .tables import Table, read_table

__all__ = [
    "Bands",
    "Estimate",
    "EstimationProblem",
    "Interval",
    "ParameterInfo",
    "Predictions",
    "Prior",
    "Profile",
    "Samples",
    "Start",
    "Table",
    "TableProblem",
    "bands",
    "display",
    "estimate",
    "plot_fit",
    "plot_profiles",
    "plot_waterfall",
    "predictions",
    "profile",
    "read_table",
    "sample",
    "save_pictures",
    "save_results",
]
