"""Records that know which of their fields were given."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .suggestions import SuggestsOptions


class Given(SuggestsOptions):
    """A base of dataclasses.

    given: the fields that the caller named, with their values as the caller gave them. A choice by
    the data may replace a default, but never what somebody asked for.
    """

    given: dict[str, Any]

    def __new__(cls, *values: Any, **given: Any) -> Any:
        self = super().__new__(cls, **given)
        names = [field.name for field in fields(cls) if field.init and not field.kw_only]
        object.__setattr__(self, "given", {**dict(zip(names, values)), **given})
        return self
