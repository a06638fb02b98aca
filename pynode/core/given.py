"""Records that know which of their fields were given."""

from __future__ import annotations

from typing import Any

from .suggestions import SuggestsOptions


class Given(SuggestsOptions):
    """A base of dataclasses whose fields have names.

    given: the fields that the caller named, with their values as the caller gave them. A choice by
    the data may replace a default, but never what somebody asked for.
    """

    given: dict[str, Any]

    def __new__(cls, *_: Any, **given: Any) -> Any:
        self = super().__new__(cls, **given)
        object.__setattr__(self, "given", given)
        return self
