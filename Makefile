# make demo   trains a neural ODE on Robertson's reaction and compares the methods on what it learned
# make test   the linter, the spelling and the tests, with the coverage of the package
# make test-julia   what a real Julia can run, with Pkg.test, and a list of what it could not run and why; not in continuous integration
# make test ROOM=methods   the tests of one folder of tests/, in two processes, without the coverage
# make quick  the linter and the fast tests: less than two minutes
# make gpu    what a first run on a GPU must show, in eight minutes; in small where there is none
# make docs   the documentation, a site in out/site
# make test-oldest   a part of the tests with the oldest torch that is promised, in .venv-oldest; not in continuous integration
# Each sets itself up: a virtual environment in .venv, installed once from constraints.txt.
# Another interpreter: make test PYTHON=python3.12; fewer or more test processes: make test JOBS=4.

PYTHON ?= python3
JOBS ?= 2
READY := .venv/.installed
PIP := .venv/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# One thread a process: the systems are small, and the processes would only fight over the cores.
export OMP_NUM_THREADS := 1

# Its torch must see the GPU. Without one that can run the list, .venv-gpu is made: torch as its
# index brings it for this machine, and JAX for the same CUDA.
GPU_PYTHON ?= $(shell $(PYTHON) -c 'import numpy, pytest, torch; torch.cuda.is_available() and print("$(PYTHON)")' 2>/dev/null)
GPU_PIP := .venv-gpu/bin/python -m pip --disable-pip-version-check install --quiet

# The lower bound of pyproject.toml. Its wheel needs none of the CUDA wheels that it names: on Linux stand-ins take their place.
OLDEST := 2.8.0
OLDEST_PIP := .venv-oldest/bin/python -m pip --disable-pip-version-check install --quiet
OLDEST_TESTS := solve/test_solve solve/test_batched backends/torch/test_events backends/torch/test_limits \
	adjoints/discrete/test_gradients adjoints/discrete/test_batched_gradients adjoints/discrete/test_second \
	transforms/test_functional core/test_surroundings methods/compiled/test_steps methods/compiled/test_rows

# Rooms and files whose tests are fast: the contract of the engines, and the pieces by themselves.
QUICK := contract repository/test_layers repository/test_tests core/test_units core/test_layout \
	algebra/test_linear_algebra algebra/test_arnoldi algebra/test_power_method methods/test_tableaus \
	methods/test_bdf_history backends/torch/test_limits failure/test_parts failure/test_rules

.PHONY: help demo test test-julia quick lint test-oldest gpu docs clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

demo: $(READY)
	@.venv/bin/python examples/demo.py

test: lint
ifdef ROOM
	@.venv/bin/python -m pytest -n $(JOBS) --dist worksteal tests/$(ROOM)
else
	@.venv/bin/python -m pytest -n $(JOBS) --dist worksteal --cov=pynode --cov-report=term
endif

# pytest lists at the end what was skipped, with the reasons. One process: each would start a Julia.
test-julia: $(READY)
	@.venv/bin/python -m pynode julia status
	@PKG_TEST=1 .venv/bin/python -m pytest -k julia tests

quick: lint
	@.venv/bin/python -m pytest -n $(JOBS) --dist worksteal $(foreach name,$(QUICK),$(wildcard tests/$(name) tests/$(name).py))

lint: $(READY)
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check --quiet .
	@.venv/bin/python -m mypy
	@.venv/bin/python -m codespell_lib .

test-oldest: .venv-oldest/.installed
	@.venv-oldest/bin/python -m pytest $(OLDEST_TESTS:%=tests/%.py)

# Results are on the screen and in out/gpu as they come.
ifneq ($(GPU_PYTHON),)
gpu:
	@$(GPU_PYTHON) -m benchmarks.gpu_list
else
gpu: .venv-gpu/.installed
	@.venv-gpu/bin/python -m benchmarks.gpu_list
endif

.venv-gpu/.installed: pyproject.toml
	@echo "Setting up .venv-gpu (once; it downloads torch and JAX) ..."
	@$(PYTHON) -m venv --clear .venv-gpu
	@$(GPU_PIP) torch==2.13.0 numpy pytest scipy hatchling editables
	@$(GPU_PIP) --no-build-isolation --editable '.[native]'
	@cuda=$$(.venv-gpu/bin/python -c 'import torch; print((torch.version.cuda or "").split(".")[0])'); \
		test -z "$$cuda" || $(GPU_PIP) "numba-cuda[cu$$cuda]" || echo "No numba-cuda: the list goes on without the kernel"; \
		$(GPU_PIP) diffrax "jax$${cuda:+[cuda$$cuda]}" || echo "No JAX: the list goes on without diffrax"
	@touch $@

docs: $(READY)
	@.venv/bin/python docs/tables.py
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --site-dir out/site
	@echo "Written: out/site/index.html"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "pynode needs Python 3.11 or later; name one: make PYTHON=python3.12"; exit 1; }
	@echo "Setting up .venv (once; it downloads torch) ..."
	@$(PYTHON) -m venv --clear .venv \
		|| { echo "No virtual environment: install your system's venv package (python3-venv) and try again"; exit 1; }
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

.venv-oldest/.installed: Makefile pyproject.toml tests/oldest/stand_ins.py
	@echo "Setting up .venv-oldest (once; it downloads torch $(OLDEST)) ..."
	@$(PYTHON) -m venv --clear .venv-oldest
	@$(OLDEST_PIP) --no-deps torch==$(OLDEST)
	@$(OLDEST_PIP) numpy filelock sympy networkx jinja2 fsspec typing-extensions setuptools scipy pytest
	@.venv-oldest/bin/python -c 'import torch' 2>/dev/null || .venv-oldest/bin/python tests/oldest/stand_ins.py
	@touch $@

clean:
	rm -rf .venv .venv-oldest .venv-gpu .mypy_cache .pytest_cache .ruff_cache .coverage out
