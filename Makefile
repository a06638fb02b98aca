# make demo   trains a neural ODE on Robertson's reaction and compares the methods on what it learned
# make test   the linter and the tests, with the coverage of the package
# make docs   the documentation, a site in out/site
# Each sets itself up: a virtual environment in .venv, installed once from constraints.txt.
# Another interpreter: make test PYTHON=python3.12; fewer or more test processes: make test JOBS=4.

PYTHON ?= python3
JOBS ?= 2
READY := .venv/.installed
PIP := .venv/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# One thread a process: the systems are small, and the processes would only fight over the cores.
export OMP_NUM_THREADS := 1

.PHONY: help demo test docs clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

demo: $(READY)
	@.venv/bin/python examples/demo.py

test: $(READY)
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m pytest -n $(JOBS) --dist worksteal --cov=pynode --cov-report=term

docs: $(READY)
	@.venv/bin/python docs/tables.py
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --site-dir out/site
	@echo "Written: out/site/index.html"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "pynode needs Python 3.10 or later; name one: make PYTHON=python3.12"; exit 1; }
	@echo "Setting up .venv (once; it downloads torch) ..."
	@$(PYTHON) -m venv --clear .venv \
		|| { echo "No virtual environment: install your system's venv package (python3-venv) and try again"; exit 1; }
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache .coverage out
