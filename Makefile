# make demo and make test do all their set-up themselves, in .venv; both work again when run twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test lint types pytest setup clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up, then evaluate the embedded experts and their merges"
	@echo "make test    set up, then lint, types and tests"
	@echo "make lint | types | pytest    one of them"
	@echo "make clean   remove what these made"

setup: $(VENV)/.ready

# torch first and pinned: a range takes a build with gigabytes of CUDA where a CPU build would do.
$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev,parity]'
	touch $@

demo: setup
	$(BIN)/della-bench demo --out demo

test: lint types pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

pytest: setup
	$(BIN)/python -m pytest -q -n 2

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
