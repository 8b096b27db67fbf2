# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
# Installed first, so that no later requirement pulls another build of it. With a GPU, plain `torch` does as well.
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/demo-ready
	$(BIN)/radar demo

# One process a core, one thread a process: two of each on one core wait for each other.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: .venv/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/torch-ready:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	touch $@

.venv/demo-ready: .venv/torch-ready pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/test-ready: .venv/torch-ready pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv radar-demo
