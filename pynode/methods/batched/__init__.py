"""Steps of many rows at once, each with its own size."""
