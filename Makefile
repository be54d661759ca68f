# Every target works alone on a fresh machine with Python 3.11 or 3.12 and make.
#   make demo              train stage 2, evaluate, segment scenes    make demo WORDS="grass,red ball"
#   make tinyscenes SEED=2 another world, all three phases from nothing
#   make test              what must pass before a commit             make test-all: the slow tests too
#   make lint              ruff and pyright

PYTHON ?= python3
SEED ?= 1
WORDS ?=

# Processes that share the tests, file by file; each takes up to 5 GiB.
TEST_PROCESSES ?= 2

VENV := .venv
BIN := $(VENV)/bin
# Progress and warnings of pip stay silent; errors do not.
INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e

PYTEST = $(BIN)/python -m pytest -q --durations=20 -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo tinyscenes test test-all lint install install-dev install-convert clean

help:
	@sed -n 's/^#   //p' Makefile

# --- Environment -----------------------------------------------------------------------------
# One stamp per set of extras: a set is installed once, and anew when its list changes.

$(VENV)/.stamp-python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "error: no program named '$(PYTHON)'; install Python 3.11 or 3.12, or say where it is: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or 3.12 is needed and '$(PYTHON)' is older ($$($(PYTHON) --version 2>&1)); say where a newer one is: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: '$(PYTHON)' cannot create virtual environments; install its venv module (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.stamp-core: $(VENV)/.stamp-python setup.py constraints.txt
	@echo "Installing uniovseg_jax into $(VENV) (once; needs a network)"
	@$(INSTALL) .
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-python setup.py constraints.txt
	@echo "Installing uniovseg_jax and its development tools into $(VENV) (once; needs a network)"
	@$(INSTALL) '.[dev]'
	@touch $@ $(VENV)/.stamp-core

$(VENV)/.stamp-convert: $(VENV)/.stamp-python setup.py constraints.txt
	@echo "Installing uniovseg_jax, PyTorch and the development tools into $(VENV) (once; needs a network)"
	@$(INSTALL) '.[convert,dev]'
	@touch $@ $(VENV)/.stamp-core $(VENV)/.stamp-dev

install: $(VENV)/.stamp-core
install-dev: $(VENV)/.stamp-dev
install-convert: $(VENV)/.stamp-convert

# --- The two commands, and their longer relatives ----------------------------------------------

demo: $(VENV)/.stamp-core
	@$(BIN)/python scripts/demo.py --output=runs/demo $(if $(WORDS),--words="$(WORDS)")

tinyscenes: $(VENV)/.stamp-core
	@$(BIN)/python scripts/demo.py --from_nothing --seed=$(SEED) --output=runs/tinyscenes

test: $(VENV)/.stamp-dev
	@$(PYTEST) -m "not slow"
	@echo "OK: tests passed (make test-all runs the slow ones too)"

# Programs are compiled as users' are; the quick suite leaves out what only makes them run faster.
test-all: $(VENV)/.stamp-dev
	@XLA_FLAGS="$(XLA_FLAGS) --xla_backend_optimization_level=3" $(PYTEST)
	@echo "OK: all tests passed, the slow ones too"

lint: $(VENV)/.stamp-dev
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/pyright
	@echo "OK: lint passed"

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build *.egg-info
