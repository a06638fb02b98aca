"""The methods: how to step. ``registry`` finds them by name."""
