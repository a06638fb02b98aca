"""``diagnose``: what makes a problem hard, and how to solve it best."""

from .diagnosis import Diagnosis
from .examine import diagnose

__all__ = ["Diagnosis", "diagnose"]
