# `make train` and `make test` need nothing but Python and make: they create a virtual environment,
# install the package into it, and run.
#   VENV=DIR         where the environment lies (default .venv)
#   PYTHON=python    which Python makes it (default python3)
#   RUN_DIR=DIR      where `make train` writes (default: a new folder under runs/)
#   TESTS=PATH       which tests `make test` runs (default: all)
#   TFIO_VENV=DIR    where the environment of `make test-tfio` lies (default .venv-tfio)
#   CONFIG=FILE      what `make train` trains (default configs/smoke.yaml)
# and for `make shipped`, which trains the package's own model again, in some hours on two cores:
#   DATA=DIR         ESC-10 in ESC-50's layout; all its folds train (default data/ESC-50-master)
#   CHECKPOINT=FILE  EfficientAT's mn04_as_mAP_432.pt (default pretrained/mn04_as_mAP_432.pt)
#   CREDITS=FILE     who recorded the clips, as it comes with the data (default DATA/LICENSE)
#   FOLDS="1 2 3 4"  the folds of DATA
#   SHIPPED_RUNS=DIR where it trains; what is finished there is not done again (runs/shipped)
#   SHIPPED_OUT=DIR  where the model goes (default esc_tf/shipped_model)

VENV ?= .venv
TFIO_VENV ?= .venv-tfio
PYTHON ?= python3
CONFIG ?= configs/smoke.yaml
# One test process for each of two cores: most of a test is tracing graphs, in a single thread.
# 0 runs all in one process, as a debugger likes it.
TEST_PROCESSES ?= 2
DATA ?= data/ESC-50-master
CHECKPOINT ?= pretrained/mn04_as_mAP_432.pt
CREDITS ?= $(DATA)/LICENSE
FOLDS ?= 1 2 3 4
VIEWS ?= 48
SHIPPED_RUNS ?= runs/shipped
SHIPPED_OUT ?= esc_tf/shipped_model

export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

IN_VENV := $(VENV)/bin
COMMAND := $(IN_VENV)/python -m esc_tf
TEACHER := configs/experiment/mn04_esc10.yaml --set data.root=$(DATA) \
  --set recipe.fine_tuning.source=$(SHIPPED_RUNS)/mn04_as.keras
STUDENT := configs/experiment/student_esc10.yaml --set data.root=$(DATA) \
  --set recipe.fine_tuning.source=$(SHIPPED_RUNS)/mn04_as.keras
TARGETS := recipe.distillation.targets=$(SHIPPED_RUNS)/answers
ANSWERS := $(foreach fold,$(FOLDS) all,$(SHIPPED_RUNS)/answers_$(fold).npz)
SOURCES := esc_tf export serving tests benchmarks setup.py
# An empty file each, written last, so that an installation that was cut short is done again.
MADE := $(VENV)/.made
INSTALLED := $(VENV)/.installed
INSTALLED_FOR_TEST := $(VENV)/.installed_for_test

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help train test test-tfio lint format types benchmark shipped clean

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

# Teachers that have never heard the fold that they teach for, their answers, students of these; then
# the same once more on all folds, which is what is shipped.
shipped: $(SHIPPED_RUNS)/students/cross_validation.json $(SHIPPED_RUNS)/student/metrics.json  ## train the package's own model again, from EfficientAT's checkpoint and ESC-10
	$(COMMAND).ship --run-dir $(SHIPPED_RUNS)/student --cross-validation $(SHIPPED_RUNS)/students \
	  --data-root $(DATA) --credits '$(CREDITS)' --out $(SHIPPED_OUT)

$(SHIPPED_RUNS)/mn04_as.keras: | $(INSTALLED)
	$(COMMAND).checkpoints convert --model mobilenet_v3 --variant mn04 \
	  --source $(CHECKPOINT) --out $@

$(SHIPPED_RUNS)/teachers/cross_validation.json: $(SHIPPED_RUNS)/mn04_as.keras
	$(COMMAND).train --config $(TEACHER) --cross-validate --run-dir $(@D) \
	  $(if $(wildcard $(@D)/cross_validation.yaml),--resume)

$(SHIPPED_RUNS)/teacher/metrics.json: $(SHIPPED_RUNS)/mn04_as.keras
	$(COMMAND).train --config $(TEACHER) --set data.test_fold=null --run-dir $(@D) --resume-if-started

$(SHIPPED_RUNS)/answers_all.npz: $(SHIPPED_RUNS)/teacher/metrics.json
	$(COMMAND).distill teach --config $(STUDENT) --set data.test_fold=null --set $(TARGETS)_all.npz \
	  --run-dir $(<D) --views $(VIEWS) --embeddings --force

$(SHIPPED_RUNS)/answers_%.npz: $(SHIPPED_RUNS)/teachers/cross_validation.json
	$(COMMAND).distill teach --config $(STUDENT) --set data.test_fold=$* --set '$(TARGETS)_{test_fold}.npz' \
	  --run-dir $(<D)/fold_$* --views $(VIEWS) --embeddings --force

$(SHIPPED_RUNS)/students/cross_validation.json: $(ANSWERS)
	$(COMMAND).train --config $(STUDENT) --set '$(TARGETS)_{test_fold}.npz' --cross-validate \
	  --run-dir $(@D) $(if $(wildcard $(@D)/cross_validation.yaml),--resume)

$(SHIPPED_RUNS)/student/metrics.json: $(SHIPPED_RUNS)/answers_all.npz
	$(COMMAND).train --config $(STUDENT) --set data.test_fold=null --set $(TARGETS)_all.npz \
	  --run-dir $(@D) --resume-if-started

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
