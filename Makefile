# Everything happens inside .venv; `make help` lists the targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --no-deps
export PATH := $(abspath $(BIN)):$(PATH)
export PREFECT_HOME ?= $(CURDIR)/.prefect
.DEFAULT_GOAL := help
.PHONY: help setup demo gallery test test-fast faults coverage lint docs bench ui serve clean

help:    ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+: .*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)    ## make .venv with the locked dependencies (about 2 minutes, 7 GB)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "genmodel needs Python 3.11 or newer; this is %s: make PYTHON=python3.12" % sys.version.split()[0])'
	@echo "Making $(VENV): $$(grep -c == requirements.lock) packages, about 2 minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@# not compiled: Python does that to each file at its first import, and the demo needs a third of them
	@# the lock names everything: without --no-deps pip resolves it anew and stumbles over pins of packages with extras
	@# by three pips at once, which take other packages each: one alone keeps a single core busy. antlr4 is built by the
	@# setuptools of the environment, so the pip that replaces it takes both, in their order
	@awk '/^[a-z]/ {part = /^(cuda|nvidia|torch|triton)/ ? 1 : /^(antlr4|ml|[n-z])/ ? 3 : 2} {print > "$(VENV)/part" part ".lock"}' requirements.lock
	@for part in 1 2 3; do $(INSTALL) --no-compile --require-hashes -r $(VENV)/part$$part.lock & pips="$$pips $$!"; done; \
	  for pip in $$pips; do wait $$pip || failed=1; done; test -z "$$failed"
	@$(INSTALL) --no-build-isolation -e .
	@touch $@

demo: $(READY)    ## retrain on the embedded digits: data, four models, figures, champion
	@$(BIN)/python -m flows.retrain

# In a clone: nothing of the demo's is touched. What is finished there stays finished, and dvc.lock is left behind.
gallery: $(READY)    ## train and judge larger models (presets/gallery.yaml) beside the demo's, in gallery/; resumes
	@test -d gallery || git clone --quiet . gallery
	@git -C gallery fetch --quiet origin HEAD && git -C gallery reset --quiet --hard FETCH_HEAD
	@{ cat presets/gallery.yaml; sed '1,/^models:/d; /^[a-z]/,$$d' params.yaml; } > gallery/params.yaml
	@cd gallery && PREFECT_HOME=$$PWD/.prefect $(abspath $(BIN))/python -m flows.retrain
	@echo "samples: gallery/models/*/samples; the table as a page: gallery/leaderboard.html"

test: $(READY)    ## run the tests, or those of TESTS="tests/flows -x"
	@$(BIN)/python -m pytest $(TESTS)

test-fast: $(READY)    ## the tests that are quick, on all cores (2 minutes on two)
	@$(BIN)/python -m pytest -n logical --dist loadfile -m "not slow" --ignore tests/flows --timeout 60

faults: $(READY)    ## kill, fill, damage, stall: the tests of every fault, with a table (docs/reliability.md)
	@$(BIN)/python -m pytest -m fault --quiet $(TESTS)

coverage: $(READY)    ## which branches the quick tests reach (over a quarter of an hour)
	@$(BIN)/python -m pytest -n logical --dist loadfile -m "not slow" --ignore tests/flows/running --cov --cov-report term

lint: $(READY)    ## style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(READY)    ## build the pages of docs/ as a site, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict && echo "site/index.html"

bench: $(READY)    ## measure this machine beside the plain way; appends to benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks.run

ui: $(READY)    ## open the MLflow UI at http://127.0.0.1:5000
	@$(BIN)/python -m flows.ui

serve: $(READY)    ## retrain on a schedule (GENMODEL_CRON, default every night at 3)
	@$(BIN)/python -m flows.retrain --serve

clean:    ## remove what the line made, not the versions in DVC's cache
	rm -rf data closures models reference reports figures runs ranking.csv leaderboard.* decision.* champion.*
