# make report | make test | make lab: each creates .venv and installs on first use; python >= 3.11 is all it needs.
# PYTHON=python3.12 make test   chooses the interpreter the environment is made with.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PARAMETERS ?=

.PHONY: report test test-all lint docs lab lock clean help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "workbench needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

REPORT ?= audit

report: $(VENV)/installed  ## REPORT=audit, hubness, integrity or reproducibility, of the built-in data and model; prints the path of the report
	$(BIN)/workbench report $(REPORT) $(PARAMETERS)

test: $(VENV)/installed  ## the tests that run at every change
	$(BIN)/python -m pytest

test-all: $(VENV)/installed  ## every test, also the slow ones
	$(BIN)/python -m pytest -m "slow or not slow"

lint: $(VENV)/installed  ## style, types, cleared notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed  ## the API reference, which opens offline: docs-build/index.html
	$(BIN)/python docs/reference.py docs-build

lab: $(VENV)/installed  ## JupyterLab in this environment
	$(BIN)/jupyter lab

lock: $(VENV)/installed  ## renew requirements.lock from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" pyproject.toml --output-file requirements.lock

clean:  ## remove the environment and what was built; keeps runs/
	rm -rf $(VENV) dist build docs-build .pytest_cache .mypy_cache .ruff_cache
