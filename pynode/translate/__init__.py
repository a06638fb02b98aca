"""Torch vector fields as native functions: f, its Jacobian and its products."""

from .field import NativeField, NativeFunction, translate
from .refusal import TranslationRefused

__all__ = ["NativeField", "NativeFunction", "TranslationRefused", "translate"]
