# Two environments: .venv-serve has what serving needs and is quick to make; .venv has the tools, the build set and torch.
# Each is completed when its lock or pyproject.toml is newer than its stamp, and never rebuilt while its pip works.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$p" && break; done)
UV := $(shell command -v uv)
TORCH := $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
BIN := .venv/bin

ifeq ($(UV),)
create = "$(PYTHON)" -m venv $(1)
install = $(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2)
else
create = uv venv --quiet --seed --python "$(PYTHON)" $(1)
install = uv pip install --quiet --python $(1)/bin/python $(2)
endif

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run dev test lint types imports format load rivals faults soak lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv-serve/.ready  ## serve a drawn demo gallery on http://127.0.0.1:8000 (REID_PORT=... for another port)
	@exec .venv-serve/bin/reid demo demo --serve --port "$${REID_PORT:-8000}"

dev: .venv/.ready-dev  ## the environment of model_build and the tests (.venv), with torch

test: lint types imports  ## lint, types, imports and every test
	@echo "== tests"
	@$(BIN)/pytest -n 2 --dist loadfile

lint: .venv/.ready-dev  ## style and format (ruff)
	@echo "== lint"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .

types: .venv/.ready-dev  ## types (mypy, strict)
	@echo "== types"
	@$(BIN)/mypy

imports: .venv/.ready-dev  ## who may import whom (import-linter)
	@echo "== imports"
	@$(BIN)/lint-imports --no-logo

format: .venv/.ready-dev  ## write the format that `make lint` asks for
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

load: .venv/.ready-dev  ## load the service and draw its curves, or one scenario: ARGS=overload (docs/performance.md)
	@mkdir -p build/load
	@$(BIN)/python -m tests.load $(or $(ARGS),sweep --html build/load/sweep.html --json build/load/sweep.json)

rivals: .venv/.ready-dev  ## measure the service beside LitServe and a plain FastAPI handler, in turn
	@$(BIN)/python -m tests.load.rivals $(ARGS)

faults: .venv/.ready-dev  ## kill a gallery's process 200 times, and prove each time what is left (ARGS="--kills 1000")
	@$(BIN)/python -m tests.faults.kills $(ARGS)

soak: .venv/.ready-dev  ## ten minutes of mixed load: the server's memory must stay flat (ARGS="--minutes 60")
	@$(BIN)/python -m tests.faults.soak $(ARGS)

# torch stays out of the locks, since its builds differ by machine; what it requires is in (group torch-requires).
# The last two are the container images': model_build without the tests' tools, and what compiling aclruntime takes.
COMPILE = uv pip compile $(1) --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(ARGS)
WITHOUT_TORCH = echo "torch; sys_platform == 'never'" | $(call COMPILE,pyproject.toml) --overrides /dev/stdin --no-emit-package torch \
	--extra cpu --extra build --group build-backend --group torch-requires
lock:  ## write the lock files; ARGS=--upgrade takes newer versions (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv"; exit 1; }
	@$(call COMPILE,pyproject.toml) --extra cpu --group build-backend -o requirements.lock
	@$(WITHOUT_TORCH) --extra openvino --extra report --extra dev --constraints requirements.lock -o requirements-dev.lock
	@$(WITHOUT_TORCH) --constraints requirements-dev.lock -o requirements-build.lock
	@$(call COMPILE) --group aclruntime --constraints requirements-dev.lock -o requirements-aclruntime.lock
	@! grep -nE '^(torch|nvidia|triton)|://' requirements*.lock

clean:  ## remove caches and build outputs (environments and demo/ stay)
	@rm -rf build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis
	@find app model_build tests -name __pycache__ -prune -exec rm -rf {} +

.venv-serve/.ready: requirements.lock pyproject.toml
	@$(call environment,.venv-serve,requirements.lock)
	@touch $@

# torch by pip, also where uv made the environment: pip takes the build this machine is set up for.
.venv/.ready-dev: requirements-dev.lock pyproject.toml
	@$(call environment,.venv,requirements-dev.lock)
	@echo "== environment .venv: $(TORCH)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@touch $@

# $(call environment,FOLDER,LOCK): the locked packages, then the project itself, built by the locked backend.
define environment
echo "== environment $(1): $(2)"; \
$(1)/bin/python -m pip --version >/dev/null 2>&1 || { $(check_python) && rm -rf $(1) && $(call create,$(1)); } && \
$(call install,$(1),--require-hashes -r $(2)) && \
$(call install,$(1),--no-deps --no-build-isolation -e .)
endef

define check_python
if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or later is needed: install it, or name one with PYTHON=..."; exit 1; fi; \
if [ -z "$(UV)" ] && ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
echo "$(PYTHON) cannot make virtual environments: install python3-venv (apt-get install python3-venv), or uv."; exit 1; fi
endef
