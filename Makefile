# SPDX-License-Identifier: Apache-2.0
# The whole developer interface. `make help` says what each target does.

SHELL := /bin/sh
PYTHON := .venv/bin/python
FUZZ_INPUTS ?= 1000000
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint type bench fuzz coverage least kills faults privileged clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)$$/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z]*\):.*## \(.*\)$$/  make \1: \2/p' Makefile

setup: ## install what is missing (system packages as root, .venv, compiled policy); quick when nothing changed
	@sh packaging/setup.sh

demo: setup ## provision an overlay of this machine against an emulated Azure host, for real (root); SHELL_INSIDE=1 leaves a shell in there; AGENT=auto, waagent, cloud-init or disabled
	@$(PYTHON) -m tests.fabric.demo $(if $(SHELL_INSIDE),--shell) $(if $(AGENT),--agent $(AGENT))

test: setup ## all tests, with progress; as non-root those that need no root (ARGS='-k word' narrows)
	@$(PYTHON) -m pytest -n 2 --dist loadscope $(ARGS)

lint: setup ## ruff's rules and format, the import rules
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports

type: setup ## mypy --strict over everything
	@.venv/bin/mypy

bench: setup ## the numbers, as a table with this machine's calibration beside them (root for all of them)
	@$(PYTHON) -m tests.bench $(ARGS)

fuzz: setup ## a million mutated inputs of each format and message (ZMTP connections: a fiftieth), on all processors (FUZZ_INPUTS=1000000, ARGS=FORMAT for one)
	@$(PYTHON) -m tests.fuzz --inputs $(FUZZ_INPUTS) $(ARGS)

coverage: setup ## the readers' branches under their unit tests; fails below 95 %
	@$(PYTHON) -m coverage run -m pytest -q tests/unit/parser
	@$(PYTHON) -m coverage report
	@$(PYTHON) -m coverage json -q -o build/coverage.json
	@$(PYTHON) -c 'import json, sys; t = json.load(open("build/coverage.json"))["totals"]; \
	    part = 100 * t["covered_branches"] / t["num_branches"]; print("branches: %.1f %%" % part); sys.exit(part < 95)'

least: setup ## take each grant of each policy away and see which job fails (root; minutes; ARGS='KIND...' or '--write docs/least.md')
	@$(PYTHON) -m tests.least $(ARGS)

kills: setup ## kill -9 in every gap of a provisioning and of goal states, while extensions run, and while twenty of them do (root; hours; ARGS='--only crowd')
	@$(PYTHON) -m tests.kills $(ARGS)

faults: setup ## every fault of the host's met by a running agent, and how soon it is back (root; a minute; ARGS='--seconds 10')
	@$(PYTHON) -m tests.fabric.fault_table $(ARGS)

privileged: setup ## count the Python in every process that holds a capability, into README.md (root)
	@$(PYTHON) -m tests.bench.privileged --write README.md

clean: ## remove .venv, the compiled policy and what the tools left; system packages stay
	@rm -rf .venv policy/compiled.bin build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
