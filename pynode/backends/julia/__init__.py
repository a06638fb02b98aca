"""The Julia bridge: SciML's solvers on a torch vector field. Nothing here is imported, or started,
before it is asked for."""
