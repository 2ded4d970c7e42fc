# A fresh machine needs Python 3.11 with pip, and make. Everything else goes to .venv.
.PHONY: setup demo test test-fast lint types clean

PYTHON := $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/installed
PLATFORMOPS_DATA ?= $(abspath ../shared/data)
export PLATFORMOPS_DATA
PYTEST := OMP_NUM_THREADS=2 $(BIN)/python -m pytest

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "Python 3.11 is needed; found $$($(PYTHON) --version 2>&1)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/platformops up configs/digits.yaml

# In two lanes side by side, as tests on Ray mostly wait: those, shown as they go, and all others, shown at the end.
test: setup
	@others=$$(mktemp); OMP_NUM_THREADS=2 nice -n 5 $(BIN)/python -m pytest -m "not ray" >$$others 2>&1 & lane=$$!; \
	$(PYTEST) -m ray; ray=$$?; \
	wait $$lane; code=$$?; cat $$others; rm -f $$others; exit $$((ray | code))

# The pure rooms: no Ray, no other program, nothing killed; under a minute.
ROOMS := spec pipeline registry delivery observation health scheduler security test_architecture.py
PROGRAMS := delivery/ci delivery/kube registry/test_provenance.py observation/test_stack.py
test-fast: setup
	$(PYTEST) -n auto -m "not ray and not real" $(ROOMS:%=tests/%) $(PROGRAMS:%=--ignore=tests/%)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup
	$(BIN)/mypy

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
