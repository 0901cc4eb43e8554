# Everything a user types: `make demo`, `make test`. The environment is made once, in .venv.
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-kill lint study clean

# torch first and from the pinned file, so that nothing pulls another build of it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/subgrid demo --out $(OUT)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -m "not slow and not kill" --cov --cov-report=term:skip-covered

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# Every stage killed at random moments and begun again, a dozen times each.
test-kill: $(READY)
	$(BIN)/python -m pytest -m kill tests/survival

# The ablation behind docs/stability.md; needs the demo's store, takes about two hours on 2 cores, resumable.
study: $(READY)
	$(BIN)/subgrid study stability --data $(OUT)/store.zarr --out $(OUT)/stability --docs docs

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
