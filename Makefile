# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
# Installed first, so that no later requirement pulls another build of it. With a GPU, plain `torch` does as well.
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: demo test test-pyserini lint docs clean

demo: .venv/demo-ready
	$(BIN)/radar demo

# One process a core, one thread a process: two of each on one core wait for each other.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# What `make test` skips for want of Pyserini: it brings Lucene and a JDK, so it has an environment of its own.
test-pyserini: .venv-pyserini/ready
	.venv-pyserini/bin/python -m pytest tests/pyserini_radar tests/pyterrier_radar/test_lucene.py

lint: .venv/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation, into site/; it opens from there: site/index.html.
docs: .venv/docs-ready
	$(BIN)/mkdocs build --strict

.venv/torch-ready:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	touch $@

.venv/demo-ready: .venv/torch-ready pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/docs-ready: .venv/torch-ready pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

.venv/test-ready: .venv/torch-ready pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

.venv-pyserini/ready: pyproject.toml
	$(PYTHON) -m venv .venv-pyserini
	.venv-pyserini/bin/python -m pip install --quiet "$(TORCH)"
	.venv-pyserini/bin/python -m pip install --quiet --editable ".[pyserini]" pytest hypothesis
	touch $@

clean:
	rm -rf .venv .venv-pyserini radar-demo site
