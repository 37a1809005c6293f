# `make train` and `make test` need nothing but Python and make: they create a virtual environment,
# install the package into it, and run.
#   VENV=DIR         where the environment lies (default .venv)
#   PYTHON=python    which Python makes it (default python3)
#   RUN_DIR=DIR      where `make train` writes (default: a new folder under runs/)
#   TESTS=PATH       which tests `make test` runs (default: all)
#   TFIO_VENV=DIR    where the environment of `make test-tfio` lies (default .venv-tfio)
#   CONFIG=FILE      what `make train` trains (default configs/smoke.yaml)

VENV ?= .venv
TFIO_VENV ?= .venv-tfio
PYTHON ?= python3
CONFIG ?= configs/smoke.yaml
# One test process for each of two cores: most of a test is tracing graphs, in a single thread.
# 0 runs all in one process, as a debugger likes it.
TEST_PROCESSES ?= 2

export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

IN_VENV := $(VENV)/bin
SOURCES := esc_tf export serving tests benchmarks setup.py
# An empty file each, written last, so that an installation that was cut short is done again.
MADE := $(VENV)/.made
INSTALLED := $(VENV)/.installed
INSTALLED_FOR_TEST := $(VENV)/.installed_for_test

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help train test test-tfio lint format types benchmark clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

train: $(INSTALLED)  ## train, test and report on generated sounds, in a few minutes
	$(IN_VENV)/python -m esc_tf.train --config $(CONFIG) $(if $(RUN_DIR),--run-dir $(RUN_DIR))

test: $(INSTALLED_FOR_TEST)  ## run all tests
	$(IN_VENV)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal $(TESTS)

test-tfio: $(TFIO_VENV)/.installed  ## test in-graph decoding, with TensorFlow 2.17 in an environment of its own
	$(TFIO_VENV)/bin/python -m pytest -n 0 tests/data/test_tfio.py

lint: $(INSTALLED_FOR_TEST)  ## check style and layout, changing nothing
	$(IN_VENV)/ruff check $(SOURCES)
	$(IN_VENV)/ruff format --check $(SOURCES)

format: $(INSTALLED_FOR_TEST)  ## lay the code out, and repair what can be repaired
	$(IN_VENV)/ruff check --fix $(SOURCES)
	$(IN_VENV)/ruff format $(SOURCES)

types: $(INSTALLED_FOR_TEST)  ## check the types
	$(IN_VENV)/mypy

benchmark: $(INSTALLED)  ## measure speed beside named peers
	for file in benchmarks/*.py; do \
	  $(IN_VENV)/python -m benchmarks.$$(basename $$file .py) || exit 1; done

clean:  ## remove the environment and what tools left behind, not runs/
	rm -rf $(VENV) $(TFIO_VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: there is no '$(PYTHON)' here; install Python 3.10 or later or name it with PYTHON=..." >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("error: Python 3.10 or later is needed, $(PYTHON) is " + sys.version.split()[0] + "; name another with PYTHON=...")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) cannot make virtual environments; install its venv package (on Debian and Ubuntu: apt install python3-venv)" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(INSTALLED): $(MADE) pyproject.toml setup.py
	@echo 'installing into $(VENV): some minutes the first time'
	$(IN_VENV)/python -m pip install --quiet -e .
	@touch $@

$(INSTALLED_FOR_TEST): $(MADE) pyproject.toml setup.py
	@echo 'installing into $(VENV): some minutes the first time'
	$(IN_VENV)/python -m pip install --quiet -e '.[test]'
	@touch $@ $(INSTALLED)

# tensorflow-io's last release loads with TensorFlow 2.16 and 2.17 alone, which have no wheels for
# Python 3.13 and later.
$(TFIO_VENV)/.installed: pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.version_info[:2] in ((3, 10), (3, 11), (3, 12)) or sys.exit("error: TensorFlow 2.17 needs Python 3.10 to 3.12, $(PYTHON) is " + sys.version.split()[0] + "; name another with PYTHON=...")'
	$(PYTHON) -m venv $(TFIO_VENV)
	@echo 'installing into $(TFIO_VENV): some minutes the first time'
	$(TFIO_VENV)/bin/python -m pip install --quiet 'tensorflow==2.17.1' 'pytest>=8' 'pytest-xdist>=3.6' -e '.[tfio]'
	@touch $@
