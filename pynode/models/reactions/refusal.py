"""The error of a file that uses what pynode does not support."""


class UnsupportedFeature(ValueError):
    """A file needs a feature that pynode refuses. ``feature`` is the name, also in the message."""

    def __init__(self, feature: str, remedy: str) -> None:
        super().__init__(f"{feature} is not supported: {remedy}")
        self.feature = feature

    def __reduce__(self):
        return _again, (self.feature, str(self))


def _again(feature: str, message: str) -> UnsupportedFeature:
    """The error from a pickle."""
    error = UnsupportedFeature(feature, "")
    error.args = (message,)
    return error
