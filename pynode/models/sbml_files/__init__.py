"""SBML and Antimony: files of systems biology as reaction models."""
