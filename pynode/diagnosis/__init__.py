"""``diagnose``: what makes a problem hard, and how to solve it."""

from .diagnosis import Diagnosis
from .examine import diagnose

__all__ = ["Diagnosis", "diagnose"]
