# One environment, made once and again when its recipe changes: every target below sets it up first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PROFILE ?= smoke
ARGS ?=

.PHONY: help course lab test bench weights gpu clean
help:
	@echo "make course   run the notebooks, write the book to build/course/$(PROFILE)   (PROFILE=smoke|cpu|gpu|paper)"
	@echo "make lab      open the course in JupyterLab"
	@echo "make test     lint, unit tests and notebooks            make bench   speed, as build/bench.json"
	@echo "make weights  make every shipped weight file again, in dependency order"
	@echo "make gpu      tests and course that need a CUDA device   make clean   remove what was built"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

course: $(READY)
	$(BIN)/facelab course --profile $(PROFILE) $(ARGS)

lab: $(READY)
	$(BIN)/jupyter lab --ip=127.0.0.1 notebooks/00_tour.ipynb $(ARGS)

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 --dist loadscope --nbval-lax --nbval-current-env --nbval-cell-timeout=300 tests notebooks $(ARGS)

bench: $(READY)
	mkdir -p build
	$(BIN)/python -m pytest tests/benchmarks -p no:xdist --benchmark-json=build/bench.json $(ARGS)

weights: $(READY)
	$(BIN)/python -m facelab.geometry.sculpt
	$(BIN)/python -m facelab.recipes

gpu: $(READY)
	$(BIN)/python -m pytest -m gpu tests $(ARGS)
	$(BIN)/facelab course --profile gpu

clean:
	rm -rf build .venv
