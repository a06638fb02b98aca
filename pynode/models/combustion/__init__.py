"""Combustion: mechanisms of Cantera's files, and reactors."""
