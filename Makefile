# Everything a user types: `make demo`, `make test`, `make docs`. The environment is made once, in .venv.
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo
BIN := $(VENV)/bin
# Rooms whose every line the tests should meet.
CORE := physics columns scores networks emulator training hosts coupling evaluation deployment
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-kill test-matrix test-slurm test-ftorch lint docs study matrix-small matrix-online bench clean

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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not kill and not matrix and not slurm and not ftorch" --durations=40 --durations-min=5 --cov --cov-report=term:skip-covered
	@for room in $(CORE); do \
		$(BIN)/coverage report --include="*/subgrid/$$room/*" --precision=1 --fail-under=90 --format=total >/dev/null \
			|| { echo "the tests meet less than 90 % of room $$room"; exit 1; }; \
	done

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# The site, from docs/ and the docstrings; the tutorial runs (a minute or two). Warnings are errors.
docs: $(READY)
	rm -rf docs/_api docs/_build
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Every stage killed at random moments and begun again, a dozen times each.
test-kill: $(READY)
	$(BIN)/python -m pytest -m kill tests/survival tests/training tests/workflows

# Every architecture under every recipe at 8 and 60 levels (a cover of all pairs is in `make test`), and inside the climate
# model at T21 and T31. Ten minutes.
test-matrix: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/training/test_matrix.py tests/coupling/test_every_pair.py

# Cells of sweeps on a real SLURM of one node, which this installs (Debian's packages) and starts: as root.
test-slurm: $(READY)
	PYTHON=$(abspath $(BIN)/python) bash .ci/slurm

# Bundles in Fortran through a real FTorch, every architecture under every recipe; FTorch_DIR is CMake's variable, the
# folder of FTorchConfig.cmake. Ten minutes; needs gfortran, make and cmake.
test-ftorch: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m ftorch tests/deployment

# The ablation behind docs/stability.md; needs the demo's store, takes about two hours on 2 cores, resumable.
study: $(READY)
	$(BIN)/subgrid study stability --data $(OUT)/store.zarr --out $(OUT)/stability --docs docs

# The numbers of docs/results.md: 90 runs, about two hours on 2 cores, resumable; what has a file in docs/results is done.
matrix-small: $(READY)
	$(BIN)/subgrid study matrix --data $(OUT)/store.zarr --out $(OUT)/matrix --docs docs

# The numbers of docs/results_online.md and docs/design.md: these networks in the climate model for 30 and 90 days, then
# the design and its best for years; about six hours on 2 cores, resumable in the same way. The last line compares them.
matrix-online: $(READY)
	$(BIN)/subgrid study matrix-online --data $(OUT)/store.zarr --out $(OUT)/matrix --docs docs
	$(BIN)/subgrid study design --data $(OUT)/store.zarr --out $(OUT)/design --docs docs
	$(BIN)/subgrid leaderboard docs/results_online docs/results_design --out $(OUT)/leaderboard.html

# About half an hour; each goal beside its floor from the same run. BENCH="--docs docs/performance.md" writes the page.
bench: $(READY)
	$(BIN)/python benchmarks/table.py $(BENCH)

clean:
	rm -rf $(VENV) dist build docs/_api docs/_build .mypy_cache .ruff_cache .pytest_cache
