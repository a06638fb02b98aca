"""Torch vector fields as native functions: f, its Jacobian and its products."""

from .field import NativeField, translate, translated_before
from .field_code import NativeFunction
from .refusal import TranslationRefused

__all__ = ["NativeField", "NativeFunction", "TranslationRefused", "translate", "translated_before"]
