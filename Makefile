# make setup: a virtual environment with everything; make repro: the whole chain; make test: tests, lint and types.
VENV := .venv
BIN := $(VENV)/bin
# Of the base install alone, with the oldest packages that pyproject.toml accepts.
LOWEST := build/lowest
# The first of these that exists; or `make PYTHON=/path/to/python3.12 setup`.
PYTHON ?= $(shell for name in python3.12 python3.11 python3 python; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && { echo $$name; break; }; done)
# Of gpu-check: CelebA's archive or folder (synthetic pictures without one), folder of the results, seconds in all.
FACES ?= $(wildcard data/img_align_celeba.zip)
OUT ?= build/gpu
BUDGET ?= 540
STAMP := $(VENV)/.installed-$(shell { cat pyproject.toml constraints.txt; pwd -P; } | cksum | cut -d' ' -f1)

.PHONY: help setup repro test coverage lowest lint gpu-check docs ui clean

help:
	@echo "make setup     virtual environment $(VENV) with the pipeline and the test tools"
	@echo "make repro     prepare, train, evaluate and export: dvc repro"
	@echo "make test      tests, ruff and mypy"
	@echo "make coverage  tests, and which lines of pipeline/ and stages/ they run"
	@echo "make lowest    tests of painting with the lowest versions of the base install's packages"
	@echo "make gpu-check checks and measurements on a GPU: FACES=archive OUT=folder BUDGET=seconds"
	@echo "make docs      the documentation as a site in site/"
	@echo "make ui        MLflow's pages on http://127.0.0.1:5000"
	@echo "make clean     remove the environments and caches; keeps data, models and tracked runs"

setup: $(STAMP)

$(STAMP):
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 was found; install one, or run: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
# Programs in an environment, and its link to this source, name the folder that it was made in.
	@if grep -qs '^command = ' $(VENV)/pyvenv.cfg && ! grep -qs '^command = .*$(abspath $(VENV))$$' $(VENV)/pyvenv.cfg; then \
		echo "note: $(VENV) was made in another folder; it is made anew"; rm -rf $(VENV); fi
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[pipeline,dev]'
	@rm -f $(VENV)/.installed-*
	@touch $@

# DVC runs the stages by the name `python`, so the environment's folder leads the path.
repro: setup
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/dvc repro

test: setup lint
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -n auto --dist loadfile

coverage: setup
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=term

lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(PYTHON) scripts/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --disable-pip-version-check --quiet -c $(LOWEST)/lowest.txt -e '.[test]'
	$(LOWEST)/bin/python -m pytest -n auto

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

gpu-check: setup
	$(BIN)/python benchmarks/gpu.py --out "$(OUT)" --budget $(BUDGET) $(if $(FACES),--faces "$(FACES)")

# Packages come from the network once; the build itself and the pages need none.
docs: setup
	@$(BIN)/python -c "import material, mkdocs, mkdocstrings_handlers.python" 2>/dev/null || \
		$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 PATH="$(abspath $(BIN)):$$PATH" $(BIN)/mkdocs build --strict --quiet

ui: setup
	$(BIN)/mlflow ui

clean:
	rm -rf $(VENV) build site .coverage .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
