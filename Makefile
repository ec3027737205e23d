# TradingFlow. `make` alone lists what there is.
#
# Every target installs what it needs first; once everything is there that takes a moment only.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON3 ?= python3
BOOTSTRAP := cd python && $(PYTHON3) -m devstack.bootstrap
# Commands of the project run from python/, where the packages and the .env of the services are found.
IN_PYTHON := cd python && PATH="$(CURDIR)/.venv/bin:$$PATH"

ONCE ?=
CYCLES ?=
CANDLES ?=
SERVICES ?=
NAME ?=
LINES ?= 20
FOLLOW ?= 1
ARGS ?=
# The tests wait for servers half of their time: three processes keep two cores busy. Each has servers of its own.
TEST_PROCESSES ?= 3
export SERVICES
# Compiled modules are kept even where the machine's environment forbids it: six services that each compile all their
# imports at every start took 32 s to be ready on two cores, 9 s with the bytecode kept.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help
help: ## Show this list
	@echo "make <target> [VARIABLE=value]"
	@awk -F ':.*## ' '/^[a-z][a-z% -]*:.*## / { printf "  %-26s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Bring the platform up and play the main job; ONCE=1 ends after it, CYCLES=5, CANDLES=file.csv, SERVICES=native|docker|env
	@$(BOOTSTRAP) run
	@$(IN_PYTHON) ONCE="$(ONCE)" CYCLES="$(CYCLES)" CANDLES="$(if $(CANDLES),$(abspath $(CANDLES)))" exec python -m devstack.main_job

.PHONY: test
test: ## Run the whole test suite against servers of its own, in TEST_PROCESSES=3; ARGS="-k name" goes to pytest instead
	@$(BOOTSTRAP) test
	@$(IN_PYTHON) exec python -m pytest $(or $(ARGS),-n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder)

.PHONY: check
check: ## Check style, types, imports, shell scripts and workflows
	@$(BOOTSTRAP) check
	@$(IN_PYTHON) exec python -m devstack.checks

.PHONY: format
format: ## Sort imports and format the Python code
	@$(BOOTSTRAP) check
	@$(IN_PYTHON) && ruff check --fix --exit-zero --quiet . && ruff format .

.PHONY: stop
stop: ## Stop everything `make run` started
	@$(IN_PYTHON) exec python -m devstack.control stop

.PHONY: status
status: ## Show what runs: service, pid, port, state, URL
	@$(IN_PYTHON) python -m devstack.control status || [ $$? -eq 3 ]  # 3: nothing runs

.PHONY: logs
logs: ## Follow the logs; NAME=redis for one of them, LINES=20, FOLLOW=0 to print and end
	@$(IN_PYTHON) exec python -m devstack.control logs --name "$(NAME)" --lines "$(LINES)" $(if $(filter-out 0,$(FOLLOW)),--follow)

.PHONY: clean
clean: stop ## Stop, and remove the local data, logs and caches
	@rm -rf .local python/.mypy_cache python/.pytest_cache python/.ruff_cache python/.hypothesis python/.import_linter_cache
	@find python -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "local data, logs and caches are removed; .venv and node_modules stay"

# `make bench-worker` runs python/bench/bench_worker.py, and so on: each prints one JSON object a line and exits 1 when
# a target is missed.
bench-% chaos-% prove-%: ## Run a measurement or proof of python/bench
	@test -f python/bench/$(subst -,_,$@).py || { echo "there is no python/bench/$(subst -,_,$@).py" >&2; exit 2; }
	@$(BOOTSTRAP) test
	@$(IN_PYTHON) exec python -m bench.$(subst -,_,$@)

.PHONY: hostile
hostile: ## Attack the sandbox and the outbound client; RUNS=10000 SEED=1 OWNERS=2
	@$(BOOTSTRAP) test
	@$(IN_PYTHON) exec python -m bench.hostile

.PHONY: prove-vault
prove-vault: ## Prove the vault's invariants with forge; RUNS=256 DEPTH=500
	@$(BOOTSTRAP) test
	@exec contracts/prove.sh
