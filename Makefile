PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
# A file stays on one worker: its tests share services that take long to start.
PYTEST := $(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo dev test test-all lint benchmark clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,wandb,dvc,postgres]'
	touch $@

demo: $(INSTALLED)  ## Set up, then run the whole loop on real images
	$(VENV)/bin/visionops demo

dev: $(INSTALLED)  ## Dagster UI, daemon, MLflow and lakeFS together
	$(VENV)/bin/visionops up

test: $(INSTALLED)  ## Set up, then run the tests, simulations and kills at reduced counts
	$(PYTEST)

test-all: $(INSTALLED)  ## Every test at its stated count
	VISIONOPS_FULL_COUNTS=1 $(PYTEST)

lint: $(INSTALLED)  ## Style, types and definitions
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy .
	$(VENV)/bin/dg check defs

benchmark: $(INSTALLED)  ## Print every budget of the design as a ratio
	for script in benchmarks/*.py; do $(VENV)/bin/python $$script || exit 1; done

clean:  ## Remove the environment and all local state
	rm -rf $(VENV) .visionops
