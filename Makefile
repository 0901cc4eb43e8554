# Everything a user types: `make demo`, `make test`. The environment is made once, in .venv.
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow lint study bench clean

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
	$(BIN)/python -m pytest -m "not slow" --cov --cov-report=term:skip-covered

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# The ablation behind docs/stability.md; needs the demo's store, takes about two hours on 2 cores, resumable.
study: $(READY)
	$(BIN)/subgrid study stability --data $(OUT)/store.zarr --out $(OUT)/stability --docs docs

# About eight minutes; each goal beside its floor from the same run. BENCH="--docs docs/performance.md" writes the page.
bench: $(READY)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/table.py $(BENCH)

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
