"""Finds, installs and checks Julia. Every Julia that this package starts runs in another
process."""
