"""The Julia bridge: SciML's solvers on a torch vector field. Importing this package neither imports
juliacall nor starts Julia."""
