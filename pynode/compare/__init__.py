"""Solvers, adjoints and fields, compared with each other.

print(compare("robertson"))                     # implicit against explicit: accuracy against work
print(solver_dependence(model))                 # is it another model under another solver?
print(compare_gradients("robertson"))           # which adjoint is exact?
print(stiffness_over({"before": a, "after": b}))   # what training did to the stiffness
report("report.html", {"before": a, "after": b})   # all of it on one page
print(crosscheck("robertson"))                  # both engines, in states and gradients
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazily

if TYPE_CHECKING:
    from .defaults import MAX_NFE, METHODS, RTOLS
    from .dependence import Dependence, solver_dependence
    from .engines import Crosscheck, crosscheck
    from .epochs import Epochs, stiffness_over
    from .gradients import GradientComparison, compare_gradients
    from .report_page import report
    from .work import Comparison, Row, compare

__all__ = [
    "MAX_NFE",
    "METHODS",
    "RTOLS",
    "Comparison",
    "Crosscheck",
    "Dependence",
    "Epochs",
    "GradientComparison",
    "Row",
    "compare",
    "compare_gradients",
    "crosscheck",
    "report",
    "solver_dependence",
    "stiffness_over",
]

# Everything is loaded at its first use, because the command line reads only the defaults here.
_PLACES = {
    "defaults": ("MAX_NFE", "METHODS", "RTOLS"),
    "dependence": ("Dependence", "solver_dependence"),
    "engines": ("Crosscheck", "crosscheck"),
    "epochs": ("Epochs", "stiffness_over"),
    "gradients": ("GradientComparison", "compare_gradients"),
    "report_page": ("report",),
    "work": ("Comparison", "Row", "compare"),
}
__getattr__, __dir__ = lazily(__name__, _PLACES)
