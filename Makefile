# The doors of the project. `make demo` and `make test` are all that a newcomer needs; each builds what it needs.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN = $(VENV)/bin

.PHONY: demo test check e2e stack bench

demo: $(VENV)/.demo ## watch one order cross five services; ARGS="--once --json" for scripts
	@$(BIN)/tercet demo $(ARGS)

test: $(VENV)/.test ## every promise tried: unit, contract and end-to-end tests, with branch coverage over all
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage run -m pytest tests/e2e $(ARGS)
	@$(BIN)/coverage combine -q && $(BIN)/coverage report

check: $(VENV)/.check ## lint, types and the layers of the house
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Also what `make test` skips on a machine without promtool and amtool.
SUITES = tests/e2e tests/stack tests/contract/test_generated_configs.py
e2e: $(VENV)/.test ## real processes, and the real Collector, Prometheus, Alertmanager and Jaeger, built here; SUITES=tests/stack
	@programs=$$($(BIN)/python -m tests.stack.binaries) && \
		PATH="$$programs:$$PATH" $(BIN)/python -m pytest $(SUITES) $(ARGS)

COMPOSE ?= docker compose
stack: ## the reference backend and the demo, in containers on loopback; ARGS=down stops them, COMPOSE="podman compose"
	@command -v $(firstword $(COMPOSE)) >/dev/null || { echo "make stack needs a container engine, and there is no \
	$(firstword $(COMPOSE)) here. Install Docker with its compose plugin, or say COMPOSE='podman compose'." >&2; exit 1; }
	@$(COMPOSE) version >/dev/null 2>&1 || { echo "make stack needs '$(COMPOSE)', which this $(firstword $(COMPOSE)) \
	does not have. Install its compose plugin." >&2; exit 1; }
	@$(COMPOSE) ps --quiet >/dev/null || { echo "make stack needs a running container engine. Start it first." >&2; exit 1; }
	@$(COMPOSE) $(or $(ARGS),up --build --detach)

# In environments of their own: what it is measured against would be in the tests' way, and in each other's.
BENCH_PEERS = prometheus logfire ddtrace
bench: ## what telemetry costs, beside other ways to have it; ARGS="--quick", "--parts ad --without ddtrace", "--help"
	@$(MAKE) -s --no-print-directory VENV=.cache/bench .cache/bench/.bench
	@for peer in $(BENCH_PEERS); do $(MAKE) -s --no-print-directory .cache/bench-$$peer/.peer || \
		echo "bench: $$peer cannot be installed, and is left out" >&2; done
	@.cache/bench/bin/python -m bench $(ARGS)

.cache/bench-%/.peer: pyproject.toml
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@echo "installing $* for 'make bench' into $(@D)" >&2
	@$(@D)/bin/python -m pip install -q --upgrade 'pip>=25.1' >&2
	@$(@D)/bin/python -m pip install -q --group bench-$* >&2
	@touch $@

# An old pip cannot resolve OpenTelemetry's releases; quiet on stdout, which belongs to the command.
$(VENV)/.%: pyproject.toml setup.py src/tercet/fast/twins.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tercet needs Python 3.11 or newer: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing what 'make $*' needs into $(VENV)" >&2
	@$(BIN)/python -m pip install -q --upgrade 'pip>=24.2' >&2
	@$(BIN)/python -m pip install -q -e '.[$*]' >&2
	@$(BIN)/python -m compileall -q src >&2 # as pip does with what it does not leave in place
	@touch $@
