"""Why a solve ended before its time: what happened, where the cause lies, and what to try next."""

from .case import Case, occurred
from .examine import examine
from .report import FailureReport

__all__ = ["Case", "FailureReport", "examine", "occurred"]
