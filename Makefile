# Each target sets up what it needs by itself: a virtual environment in .venv, and missing Debian packages.
# PYTHON names the interpreter to use (3.11 or newer); ARGS is passed on to the tool that a target runs.
PYTHON ?= python3
ARGS ?=
export PYTHON

RUNTIME := @sh scripts/setup.sh runtime
DEV := @sh scripts/setup.sh dev

# Two targets must not set up the same .venv at once.
.NOTPARALLEL:
.PHONY: help setup demo test test-all lint format proto proto-baseline bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv ready for development
	$(DEV)

demo: ## record, kill, recover, play back; then five nodes over Tor (TRANSPORT=loopback: without): lose, restore
	$(RUNTIME)
	@.venv/bin/python scripts/demo.py $(ARGS)

test: ## the quick tests: a few minutes
	$(DEV)
	@.venv/bin/pytest -n "$$(nproc)" --dist worksteal -m "not slow" $(ARGS)

test-all: ## all tests, with the long explorations
	$(DEV)
	@HYPOTHESIS_PROFILE=long .venv/bin/pytest -n "$$(nproc)" --dist worksteal -o faulthandler_timeout=3600 $(ARGS)

lint: ## style, types, architecture, wire format
	$(DEV)
	@sh scripts/lint.sh

format: ## rewrite Python and protobuf sources in the house style
	$(DEV)
	@.venv/bin/ruff check --quiet --fix-only .
	@.venv/bin/ruff format --quiet .
	@.venv/bin/buf format --write

proto: ## generate the stubs in proto/lucid/v1 again
	$(DEV)
	@sh scripts/proto.sh

proto-baseline: ## declare today's wire format the one to stay compatible with (docs/adr/0004)
	$(DEV)
	@.venv/bin/buf build --as-file-descriptor-set --exclude-source-info --output proto/baseline.binpb

bench: ## the figures, against restic, borg, script and asciinema
	@sh scripts/setup.sh bench
	@.venv/bin/python benchmarks/run.py $(ARGS)

clean: ## remove everything that the other targets made
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
