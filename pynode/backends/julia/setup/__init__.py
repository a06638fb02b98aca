"""Finding, installing and checking Julia. Nothing here starts it in this process."""
