# Needs Python 3.11 or newer, make, and the package registries. Each target first makes .venv agree
# with requirements.lock (.ci/environment.py: nothing is done when it does already).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

ifndef PYTHON
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)
endif
BIN := .venv/bin

.PHONY: help environment demo test ui down bench nightly lint lock

help: ## Show the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

environment: ## Make .venv agree with requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer on PATH: install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@"$(PYTHON)" .ci/environment.py

demo: environment ## Start everything, load a market, copy it, change it, prove it
	$(BIN)/carbon demo

test: environment ## Every check, cheapest first
	$(BIN)/python -m carbon_pipelines_tests.stages

lint: environment ## Style, types and layers only
	$(BIN)/python -m carbon_pipelines_tests.stages ruff pyright layers

ui: export DAGSTER_HOME ?= $(CURDIR)/.carbon/dagster
ui: environment ## Start the stack and the Dagster UI on 127.0.0.1:3000
	$(BIN)/carbon up
	@mkdir -p "$(DAGSTER_HOME)"
	@test -e "$(DAGSTER_HOME)/dagster.yaml" || printf 'telemetry:\n  enabled: false\n' > "$(DAGSTER_HOME)/dagster.yaml"
	$(BIN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 --port $${CARBON_UI_PORT:-3000}

down: environment ## Stop the stack; the data stays in .carbon
	$(BIN)/carbon down

bench: environment ## Measure first copy, capture and merge
	$(BIN)/python -m carbon_pipelines_tests.stages benchmarks

nightly: environment ## Every check with more rounds, and what only nightly runs
	CARBON_NIGHTLY=1 $(BIN)/python -m carbon_pipelines_tests.stages

lock: environment ## Resolve requirements.lock anew from pyproject.toml
	$(BIN)/python .ci/environment.py --lock
