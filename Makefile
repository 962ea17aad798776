# The only commands to remember. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: protos
protos: ## write the generated code beside every .proto
	$(BIN)/python scripts/protos.py

.PHONY: protos-check
protos-check: ## fail when the committed generated code is not fresh
	$(BIN)/python scripts/protos.py --check
