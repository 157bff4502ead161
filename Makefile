# Everything a developer or a newcomer runs. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(wildcard $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null))))
UV_VERSION := 0.13.9
BIN := .venv/bin
UV := .venv/tools/bin/uv
READY := .venv/.ready
# On a machine with GPUs: make setup LOCK=requirements/gpu.lock
LOCK ?= requirements/cpu.lock

export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help setup missing quickstart test test-fast check fmt coverage bench science generate lock

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## Make .venv with everything pinned; at once when nothing changed
	@echo "score-distill is ready: .venv/bin/score-distill --help"

quickstart: setup ## A whole distillation on two CPU cores, ends with a report
	$(BIN)/score-distill run examples/quickstart.yaml

test: setup control-plane ## All tests that need no cluster with a node
	$(BIN)/pytest

test-fast: setup ## The unit tests alone, about a minute
	$(BIN)/pytest tests/unit

check: setup ## Lint, format, types, layers, dead code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy operator/main.py
	$(BIN)/lint-imports
	$(BIN)/vulture

fmt: setup ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: setup ## Lines and branches that the unit tests alone reach, with a floor
	$(BIN)/pytest tests/unit --cov --cov-report=term

bench: setup ## The benchmarks of the README, each against its peer in the same run
	$(BIN)/python -m bench

science: setup ## When correction pays: many small runs, for hours; goes on where it stopped
	$(BIN)/python -m science

generate: setup ## Write docs/api.md, the CRD and the chart's copy of it from the API
	$(BIN)/python -m score_distill.api_docs docs/api.md
	$(BIN)/python -m score_distill.crd crds/distill.score.dev_distillationruns.yaml
	cp crds/distill.score.dev_distillationruns.yaml charts/score-operator/files/

lock: $(UV) ## Pin every dependency anew: for a CPU, for GPUs, and for the operator's image
	$(UV) pip compile pyproject.toml $(foreach extra,rollout train serve-cpu operator dev,--extra $(extra)) --override requirements/overrides.txt -o requirements/cpu.lock \
		--no-header --no-annotate --python-version 3.11
	$(UV) pip compile pyproject.toml --extra rollout --extra train --extra serve-gpu --python-platform x86_64-manylinux_2_28 \
		-o requirements/gpu.lock --no-header --no-annotate --python-version 3.11
	$(UV) pip compile pyproject.toml --extra operator --constraint requirements/cpu.lock -o requirements/operator.lock \
		--no-header --no-annotate --python-version 3.11 --generate-hashes

$(READY): $(LOCK) pyproject.toml $(UV)
	@echo "installing what $(LOCK) pins (7 GB on disk; some minutes the first time) ..."
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python $(LOCK)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

$(UV):
	@$(MAKE) --no-print-directory missing
	@echo "making .venv with $(PYTHON) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip .venv
	@$(PYTHON) -m venv .venv/tools
	@.venv/tools/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

missing:
	@lack=(); \
	need() { command -v "$$1" >/dev/null || lack+=("$$1: apt-get install $$2"); }; \
	need git git; need g++ g++; \
	for library in libnuma.so.1:libnuma1 libseccomp.so.2:libseccomp2; do \
		/sbin/ldconfig -p | grep -q "$${library%%:*}" || lack+=("$${library%%:*}: apt-get install $${library##*:}"); \
	done; \
	if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		lack+=("Python 3.11 or newer: apt-get install python3 python3-venv, or make PYTHON=/path/to/python"); \
	elif ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
		lack+=("Python's venv: apt-get install python3-venv"); \
	fi; \
	if (( $$(df --output=avail -k . | tail -1) < 10000000 )); then \
		lack+=("disk: 10 GB must be free here for .venv; $$(df -h --output=avail . | tail -1 | tr -d ' ') are"); \
	fi; \
	if (( $${#lack[@]} )); then printf 'missing  %s\n' "$${lack[@]}" >&2; exit 1; fi

.PHONY: e2e cluster cluster-binaries cluster-packages control-plane

e2e: setup cluster-packages cluster-binaries ## The tests on a real cluster with a node; needs root and Go
	$(BIN)/pytest tests/e2e

cluster: setup cluster-packages cluster-binaries ## Leave such a cluster up for a person; .venv/bin/python -m tests.cluster down ends it
	$(BIN)/python -m tests.cluster up

cluster-binaries: setup ## Build the tests' Kubernetes with Go into a cache; at once when it is there
	@$(BIN)/python -m tests.cluster.binaries

control-plane: setup
	@$(BIN)/python -m tests.cluster.binaries kubernetes prometheus

cluster-packages: setup
	@lack="$$($(BIN)/python -m tests.cluster packages)"; \
	if [ -z "$$lack" ]; then exit; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then echo "missing  apt-get install $$lack" >&2; exit 1; fi; \
	apt-get update --quiet && DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends $$lack
