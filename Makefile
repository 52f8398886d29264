# SPDX-License-Identifier: Apache-2.0
# The whole developer interface. `make help` says what each target does.

SHELL := /bin/sh
PYTHON := .venv/bin/python
FUZZ_SECONDS ?= 60
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint type bench fuzz clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)$$/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z]*\):.*## \(.*\)$$/  make \1: \2/p' Makefile

setup: ## install what is missing (system packages as root, .venv, compiled policy); quick when nothing changed
	@sh packaging/setup.sh

demo: setup ## provision an overlay of this machine against an emulated Azure host, for real (root); SHELL_INSIDE=1 leaves a shell in there
	@$(PYTHON) -m tests.fabric.demo $(if $(SHELL_INSIDE),--shell)

test: setup ## all tests, with progress; as non-root those that need no root (ARGS='-k word' narrows)
	@$(PYTHON) -m pytest $(ARGS)

lint: setup ## ruff's rules and format, the import rules
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports

type: setup ## mypy --strict over everything
	@.venv/bin/mypy

bench: setup ## the numbers, as a table with this machine's calibration beside them (root for all of them)
	@$(PYTHON) -m tests.bench $(ARGS)

fuzz: setup ## the fuzz tests, for longer (FUZZ_SECONDS=60)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) $(PYTHON) -m pytest -o timeout=0 tests/fuzz $(ARGS)

clean: ## remove .venv, the compiled policy and what the tools left; system packages stay
	@rm -rf .venv policy/compiled.bin build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
