# Everything on a fresh machine with Python 3.11+: each target makes the environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help env test lint demo encoders clean

help:            ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

# torch first and alone, so that no other package's looser request can choose another build of it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

env: $(VENV)/.installed ## the virtual environment, with pinned versions

lint: env        ## ruff, mypy, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint       ## lint and the whole test suite: offline, seeded, under ten minutes on two cores
	$(BIN)/python -m pytest

demo: env        ## the whole story on packaged data: train, evaluate, predict, report
	$(BIN)/elbert demo --out runs/demo

encoders: env    ## MiniLM and MPNet with their real weights, as teachers and for tests that want them
	$(BIN)/python benchmarks/encoders.py --out encoders

clean:           ## what the targets above made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache runs
