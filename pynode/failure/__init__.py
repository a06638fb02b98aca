"""Why a solve failed: what happened, what caused it, and what to try next."""

from .examine import examine
from .failed_solve import Case, occurred
from .report import FailureReport

__all__ = ["Case", "FailureReport", "examine", "occurred"]
