# The only commands to remember; `make` alone lists them. Each works on a fresh clone.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Arguments for pytest: `make test ARGS="-k overlay -x"`.
ARGS ?=
# Both cores of a small machine, and no more of a large one than the disk can feed.
WORKERS ?= $(shell n=$$(nproc); echo $$((n > 8 ? 8 : n)))
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: dev
dev: $(STAMP) ## create .venv with everything a developer needs (quick the second time)
	@:

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Slipform needs Python 3.11 or newer; say which with: make PYTHON=python3.12 …" >&2; exit 1; }
	@scripts/system-packages dev
	@echo "creating $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.PHONY: fmt
fmt: dev ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

.PHONY: lint
lint: dev ## ruff, import rules, spelling, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell $$(git ls-files)
	$(BIN)/python scripts/whitespace.py
	@if command -v buf >/dev/null; then buf lint; else echo "buf: not installed; tests/architecture/test_protos.py checks the same rules"; fi

.PHONY: type
type: dev ## mypy, strict
	$(BIN)/mypy

.PHONY: test
test: ## install what tests need, run them all; ARGS="-k name" for some
	@scripts/system-packages test
	@$(MAKE) dev
	$(PYTEST) -m 'not network' $(ARGS)

.PHONY: test-root
test-root: dev ## only the tests that need root
	$(PYTEST) -m 'root and not network' $(ARGS)

.PHONY: cover
cover: dev ## all tests with coverage, then the lines that none reached
	$(PYTEST) -m 'not network' --cov --cov-report=term-missing:skip-covered $(ARGS)

.PHONY: protos
protos: dev ## write the generated code beside every .proto
	$(BIN)/python scripts/protos.py

.PHONY: protos-check
protos-check: dev ## fail when the committed generated code is not fresh
	$(BIN)/python scripts/protos.py --check

.PHONY: bench
bench: dev ## every benchmark, one JSON line per case
	@scripts/bench $(ARGS)

.PHONY: demo
demo: ## build examples/webapp on a real base, run it, see it answer
	@scripts/demo

.PHONY: ci
ci: ## exactly what CI runs: lint, type, protos-check, all tests, no excuses
	@scripts/system-packages peers
	@$(MAKE) dev
	@$(MAKE) lint
	@$(MAKE) type
	@$(MAKE) protos-check
	@SLIPFORM_TEST_STRICT=1 $(MAKE) test

.PHONY: clean
clean: ## remove what was made, except .venv and the cached base
	rm -rf build dist .coverage* htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find protos services drivers clients tests benchmarks scripts -name __pycache__ -prune -exec rm -rf {} +
