# `make demo` and `make test` set up all that they need. What each target runs is a command that a person could type.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A person at a terminal sees how far an installation is.
QUIET := $(shell test -t 2 || echo --quiet)
UV := $(VENV)/bin/uv
# What shares servers stays together (tests/conftest.py). More workers than four ask more of a machine than they spare.
IN_PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo up test check coverage test-lowest format protos parity locks bench conformance clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with the locked packages

$(STAMP): requirements/dev.txt requirements/uv.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say which: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "setting up: making $(VENV) …" >&2; $(PYTHON) -m venv $(VENV); }
	@test -x $(UV) || { echo "setting up: uv …" >&2; $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt; }
	@echo "setting up: the locked packages (ten seconds to a minute, by what is cached) …" >&2
	@$(UV) pip install $(QUIET) --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP) ## One session end to end: a phantom worker is caught and corrected
	@$(BIN)/lakehouse demo

up: $(STAMP) ## The three services on this machine; Ctrl-C stops them
	@$(BIN)/lakehouse up

test: $(STAMP) ## All tests, a file a core
	$(BIN)/pytest $(IN_PARALLEL)

coverage: $(STAMP) ## Which lines the tests run, the services' processes included; .work/coverage/html has the pages
	@mkdir -p .work/coverage
	@# The guard of a session's work counts lines by the hook that coverage needs.
	$(BIN)/coverage run -m pytest --ignore=tests/bench
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report --skip-covered --format=total | sed 's/^/coverage in percent: /'

test-lowest: $(STAMP) ## All tests with the lowest releases that pyproject.toml allows, in .venv-lowest
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-lowest
	@$(UV) pip install --quiet --python .venv-lowest/bin/python --require-hashes -r requirements/dev.txt
	@$(UV) pip install --quiet --python .venv-lowest/bin/python --require-hashes -r requirements/lowest.txt
	@$(UV) pip install --quiet --python .venv-lowest/bin/python --no-deps --no-build-isolation -e .
	.venv-lowest/bin/pytest $(IN_PARALLEL) $(LOWEST_TESTS)

check: $(STAMP) ## Lint, format, types, protos
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/buf lint
	$(BIN)/buf breaking --against protos/released/v0.1.binpb
	$(BIN)/buf format --diff --exit-code

format: $(STAMP) ## Put the code into its format
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format
	$(BIN)/buf format --write

protos: $(STAMP) ## Make the stubs from protos/
	$(BIN)/python scripts/gen_protos.py

parity: $(STAMP) ## The session row in Python, Go and Rust: the same bytes
	$(BIN)/python -m parity.run

conformance: $(STAMP) ## The environment of tests/conformance and bench/acceptance (minutes)
	$(BIN)/python scripts/conformance_env.py

bench: $(STAMP) ## Whole sessions against the floor and against what people use today (about half an hour)
	$(BIN)/python -m bench.stack --write

locks: $(STAMP) ## Resolve requirements/ anew
	$(BIN)/python scripts/lock.py

clean: ## Remove what was made
	rm -rf $(VENV) .venv-* .tools .work build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
