# Everything a newcomer needs. `make` alone prints this list.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PACKAGE := $(VENV)/.package
UV := uv==0.13.9

.PHONY: help demo fault stop test lint bench mutants spark clean lock setup

help: ## Print this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-7s %s\n", $$1, $$2}'

demo: setup ## Start S3, eight hosts and Airflow here; end when the first pictures are there
	@$(BIN)/pingmesh demo up

fault: ## Let host04 of the demo stop answering for a minute (WHAT=host02, WHAT=hammer: a user floods one node)
	@$(BIN)/pingmesh demo fault $(or $(WHAT),host04) --seconds $(or $(SECONDS),60)

stop: ## Stop what `make demo` started
	@if [ -x $(BIN)/pingmesh ]; then $(BIN)/pingmesh demo stop; else echo "nothing is installed"; fi

test: setup ## Run all tests (a quarter of an hour; lists at the end what this machine lacks)
	@$(BIN)/python -m tests.run_all

lint: setup ## Check style, types and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: setup ## Measure every claim of the README (some need root)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

mutants: .mutants/.installed ## Sample mutants of ROOMS (all), COUNT of each (20), SEED (1), for MINUTES (60): do tests notice?
	@.mutants/bin/python tests/mutants.py --count $(or $(COUNT),20) --seed $(or $(SEED),1) --minutes $(or $(MINUTES),60) \
	  $(if $(ROOMS),--rooms $(ROOMS))

spark: .spark/.installed ## Install Spark for the engine `spark` (450 MB; it needs Java 17)

clean: stop ## Stop the demo; remove what it stored, all that is installed here, caches
	@rm -rf .demo .mutants .spark $(VENV) .mypy_cache .ruff_cache .pytest_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: ## Resolve the dependencies of pyproject.toml anew, into the three locks
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && $(PYTHON) -m venv "$$tools" \
	  && "$$tools/bin/pip" install --quiet --disable-pip-version-check $(UV) \
	  && lock="$$tools/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header" \
	  && $$lock --extra spark --extra demo --extra bench --extra dev pyproject.toml -o requirements.lock \
	  && $$lock --extra spark --extra demo --extra postgres -c requirements.lock pyproject.toml -o requirements-image.lock \
	  && echo "hatchling" | $$lock -c requirements.lock - -o requirements-build.lock

setup: $(PACKAGE)

# Editable: the command `pingmesh` and the plugin's entry point run this checkout.
$(PACKAGE): $(INSTALLED) pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED): requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "setup: there is no $(PYTHON); install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "setup: $(PYTHON) is too old; 3.11 or newer is needed: try make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "setup: $(PYTHON) cannot make virtual environments; apt install python3-venv"; exit 1; }
	@echo "installing into $(VENV): about a minute and 1 GB"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@touch $@

.mutants/.installed: requirements-mutants.lock | setup
	@echo "installing Cosmic Ray into .mutants: some seconds"
	@rm -rf .mutants && $(PYTHON) -m venv .mutants
	@.mutants/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

.spark/.installed: requirements-spark.lock | setup
	@echo "installing Spark into .spark: about a minute"
	@rm -rf .spark
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-cache-dir --require-hashes \
	  --target .spark -r $<
	@touch $@
