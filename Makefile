PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
INSTALL_LOG := $(VENV)/install.log
# Of what pip says: each package that is looked at, on one line in a terminal, each fiftieth elsewhere; and errors.
SHOW_INSTALLATION := { n=0; of=$$(grep -c == constraints.txt); \
	if test -t 1; then show() { printf '\r\033[K  %s' "$$1"; }; else show() { echo "  $$1"; }; fi; \
	while read -r word package rest; do case $$word in \
		Collecting) n=$$((n + 1)); \
			if test -t 1 || test $$((n % 50)) = 0; then show "$$n of some $$of: $${package%%[<>=!~;]*}"; fi;; \
		Installing) if test "$$package" = collected; then \
			show "all are there; installing them takes a minute or two"; fi;; \
		ERROR:*) echo; echo "$$word $$package $$rest";; \
	esac; done; if test -t 1; then printf '\r\033[K'; fi; }
# A file stays on one worker: its tests share services that take long to start.
PYTEST := $(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo dev test test-all fuzz lint benchmark clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing VisionOps and some $$(grep -c == constraints.txt) packages (3 GB) into $(VENV), once: minutes."
	$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --upgrade pip
	@{ $(VENV)/bin/python -m pip install --constraint constraints.txt --editable '.[dev,wandb,dvc,postgres]' \
		--progress-bar off --log $(INSTALL_LOG) 2>&1 || echo failed >$(VENV)/failed; } | $(SHOW_INSTALLATION)
	@test ! -e $(VENV)/failed || { rm $(VENV)/failed; echo "The installation failed; its log: $(INSTALL_LOG)"; exit 1; }
	touch $@

demo: $(INSTALLED)  ## Set up, then run the whole loop on real images
	$(VENV)/bin/visionops demo

dev: $(INSTALLED)  ## Dagster UI, daemon, MLflow and lakeFS together
	$(VENV)/bin/visionops up

test: $(INSTALLED)  ## Set up, then run the tests, simulations and kills at reduced counts
	$(PYTEST)

test-all: $(INSTALLED)  ## Every test at its stated count
	VISIONOPS_FULL_COUNTS=1 $(PYTEST)

fuzz: $(INSTALLED)  ## What strangers may send, altered at random, at its stated count; failing inputs stay in .fuzz/
	VISIONOPS_FULL_COUNTS=1 $(PYTEST) tests/fuzz

lint: $(INSTALLED)  ## Style, types and definitions
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy .
	$(VENV)/bin/dg check defs

benchmark: $(INSTALLED)  ## Print every budget of the design as a ratio
	for script in benchmarks/*.py; do $(VENV)/bin/python $$script || exit 1; done

clean:  ## Remove the environment and all local state
	rm -rf $(VENV) .visionops
