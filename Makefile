PYTHON ?= python3
VENV := .venv
# What is there: the core, the extras of users on top of it, what tests need on top of both.
INSTALLED := $(VENV)/.installed
INSTALLED_EXTRAS := $(VENV)/.installed-extras
INSTALLED_DEV := $(VENV)/.installed-dev
LOCKS := requirements.lock requirements-extras.lock requirements-dev.lock
USERS_EXTRAS := wandb dvc postgres yolox
# What the locks were resolved for, all alike.
LOCKED_PYTHONS := 3.11 3.12 3.13 3.14
LOCKED_MACHINES := x86_64 aarch64
UV := 0.13.9
# Whether the locks fit this machine; where they do not, all is installed by its version from constraints.txt instead.
LOCKS_FIT := $(PYTHON) -c 'import platform, sys; sys.exit( \
	(sys.platform, platform.libc_ver()[0], sys.implementation.name) != ("linux", "glibc", "cpython") \
	or platform.machine() not in "$(LOCKED_MACHINES)".split() \
	or "%d.%d" % sys.version_info[:2] not in "$(LOCKED_PYTHONS)".split())'
INSTALL_LOG := $(VENV)/install.log
PIP := $(VENV)/bin/python -m pip
PIP_INSTALL := $(PIP) install --progress-bar off --log $(INSTALL_LOG)
FROM_LOCK := $(PIP_INSTALL) --no-deps --require-hashes --only-binary :all: --requirement
# Of what pip says: each package that is looked at, on one line in a terminal, each fiftieth elsewhere; and errors.
SHOW_INSTALLATION := { n=0; \
	if test -t 1; then show() { printf '\r\033[K  %s' "$$1"; }; else show() { echo "  $$1"; }; fi; \
	while read -r word package rest; do case $$word in \
		Collecting) n=$$((n + 1)); \
			if test -t 1 || test $$((n % 50)) = 0; then show "$$n of some $$of: $${package%%[<>=!~;]*}"; fi;; \
		Installing) if test "$$package" = collected; then \
			show "all are there; installing them takes a minute or two"; fi;; \
		ERROR:*) echo; echo "$$word $$package $$rest";; \
	esac; done; if test -t 1; then printf '\r\033[K'; fi; }
# $(call install,a lock,what to install where it does not fit): a failure says where its log is, and leaves no stamp.
define install
@if $(LOCKS_FIT); then of=$$(grep -c == $(1)); else of=$$(grep -c == constraints.txt); fi; \
{ if $(LOCKS_FIT); then $(FROM_LOCK) $(1); else $(PIP_INSTALL) --constraint constraints.txt --editable $(2); fi \
	2>&1 || echo failed >$(VENV)/failed; } | $(SHOW_INSTALLATION)
@test ! -e $(VENV)/failed || { rm $(VENV)/failed; echo "The installation failed; its log: $(INSTALL_LOG)"; exit 1; }
endef
# A file stays on one worker: its tests share services that take long to start. Compiled modules are kept, whatever the
# environment says: each worker and each command that a test starts would compile all of them again.
PYTEST := PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo dev test test-ci test-all coverage fuzz lint docs benchmark lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): pyproject.toml constraints.txt requirements.lock
	@echo "Installing VisionOps and some $$(grep -c == requirements.lock) packages (7 GB) into $(VENV), once: minutes."
	$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --upgrade pip
	$(call install,requirements.lock,.)
	@if $(LOCKS_FIT); then echo "  and torch with torchvision, of the build that the index has for this machine"; \
		$(PIP_INSTALL) --quiet --constraint constraints.txt torch torchvision \
		&& PYTHONWARNINGS=ignore $(PIP_INSTALL) --quiet --no-deps --no-build-isolation --editable .; fi
	touch $@

$(INSTALLED_EXTRAS): $(INSTALLED) requirements-extras.lock
	$(call install,requirements-extras.lock,'.[$(shell echo $(USERS_EXTRAS) | tr ' ' ,)]')
	touch $@

$(INSTALLED_DEV): $(INSTALLED_EXTRAS) requirements-dev.lock
	$(call install,requirements-dev.lock,'.[dev]')
	touch $@

demo: $(INSTALLED)  ## Set up, then run the whole loop on real images
	$(VENV)/bin/visionops demo

dev: $(INSTALLED)  ## Dagster UI, daemon, MLflow and lakeFS together
	$(VENV)/bin/visionops up

test: $(INSTALLED_DEV)  ## Set up, then run what is not `slow`: minutes
	$(PYTEST) -m "not slow"

test-ci: $(INSTALLED_DEV)  ## Every test, simulations and kills at reduced counts: what CI runs
	$(PYTEST)

test-all: $(INSTALLED_DEV)  ## Every test at its stated count
	VISIONOPS_FULL_COUNTS=1 $(PYTEST)

coverage: $(INSTALLED_DEV)  ## The tests again, and which lines they run; fails below the floor in pyproject.toml
	$(PYTEST) --cov --cov-report=term:skip-covered

fuzz: $(INSTALLED_DEV)  ## What strangers may send, altered at random, at its stated count; failing inputs stay in .fuzz/
	VISIONOPS_FULL_COUNTS=1 $(PYTEST) tests/fuzz

lint: $(INSTALLED_DEV)  ## Style, types, unused code, dependencies and definitions
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy .
	$(VENV)/bin/vulture
	$(VENV)/bin/deptry . --no-ansi
	$(VENV)/bin/dg check defs

docs: $(INSTALLED)  ## Write anew what docs/ and README say of settings, project file and command line
	PYTHONPATH=. $(VENV)/bin/python docs/references.py

benchmark: $(INSTALLED_DEV)  ## Print every budget of the design as a ratio
	for script in benchmarks/*.py; do $(VENV)/bin/python $$script || exit 1; done

lock: $(INSTALLED)  ## Write the locks anew, of the versions in constraints.txt
	$(PIP) install --quiet --upgrade --target $(VENV)/lock uv==$(UV)
	@set -e; lock() { \
		of=$$1; shift; rm -f $$of; \
		for python in $(LOCKED_PYTHONS); do for machine in $(LOCKED_MACHINES); do \
			$(VENV)/lock/bin/uv pip compile pyproject.toml "$$@" --constraint constraints.txt --quiet \
				--generate-hashes --no-annotate --only-binary :all: \
				--python-platform $$machine-manylinux_2_28 --python-version $$python \
				--custom-compile-command "make lock" $$(cat $(VENV)/lock/emitted) --output-file $(VENV)/lock/found; \
			test -e $$of || cp $(VENV)/lock/found $$of; \
			cmp $$of $(VENV)/lock/found || { echo "Python $$python on $$machine asks for others"; exit 1; }; \
		done; done; \
		sed -n 's/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p' $$of >>$(VENV)/lock/emitted; \
	}; \
	echo "--no-emit-package torch --no-emit-package torchvision" >$(VENV)/lock/emitted; \
	lock requirements.lock; \
	lock requirements-extras.lock $(USERS_EXTRAS:%=--extra %); \
	lock requirements-dev.lock $(USERS_EXTRAS:%=--extra %) --extra dev

clean:  ## Remove the environment and all local state
	rm -rf $(VENV) .visionops
