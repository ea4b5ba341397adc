# One command for everything. `make run` needs Python 3.11, make and, if something is missing, root or sudo for apt-get.
.DEFAULT_GOAL := help
.PHONY: help run test check lock docs bench faults clean
MAKEFLAGS += --no-print-directory

PYTHON ?= python3.11
BIN := .venv/bin
BROWSER := tests/browser/node_modules/.package-lock.json
NODE_RED := bench/rivals/node_red/node_modules/.package-lock.json
PYTEST_ARGS ?=
BENCH ?=
RUN ?= flows/car_inspection flows/car_inspection/simulator

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1	\2/p' Makefile

run: .venv/ready  ## set up, then run the car inspection pack with simulated devices (another: RUN=flows/…); honours MILLSTREAM_*
	@echo "run: millstream run $(RUN)"
	@exec $(BIN)/millstream run $(RUN)

test: .venv/ready-dev  ## set up with the services that the tests talk to, check, then run every test (some: PYTEST_ARGS=…)
	@$(MAKE) check
	@sh scripts/services.sh
	@$(MAKE) $(BROWSER)
	@echo "test: pytest $(PYTEST_ARGS)"
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile $(PYTEST_ARGS)

check: .venv/ready-dev  ## format, lint, types, import contracts, flows, container files
	@echo "check: ruff format"; $(BIN)/ruff format --check --quiet .
	@echo "check: ruff"; $(BIN)/ruff check --quiet .
	@echo "check: mypy"; $(BIN)/mypy --no-error-summary
	@echo "check: import contracts"; $(BIN)/lint-imports > .venv/contracts.txt || { cat .venv/contracts.txt; exit 1; }
	@echo "check: flows"; $(BIN)/millstream lint flows
	@echo "check: container files"; $(BIN)/yamllint --strict compose.yaml
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile; fi

lock: .venv/ready-dev  ## resolve the newest versions that pyproject.toml and package.json allow
	@echo "lock: requirements.lock"; $(BIN)/uv $(COMPILE) --upgrade --group build -o requirements.lock
	@echo "lock: requirements-dev.lock"; $(BIN)/uv $(COMPILE) --upgrade --group build --group dev -c requirements.lock \
		-o requirements-dev.lock
	@echo "lock: bench/rivals/requirements.lock"; echo mysqlclient | $(BIN)/uv $(subst pyproject.toml,-,$(COMPILE)) --upgrade \
		-o bench/rivals/requirements.lock
	@for folder in tests/browser bench/rivals/node_red; do echo "lock: $$folder"; \
		(cd $$folder && rm -f package-lock.json && npm install --package-lock-only --loglevel=error) || exit 1; done

COMPILE := pip compile pyproject.toml --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet

docs: .venv/ready  ## write docs/components and the language's JSON Schema from the component classes
	@echo "docs: docs/components"; $(BIN)/millstream explain --into docs/components
	@echo "docs: docs/schema.json"; $(BIN)/millstream schema > docs/schema.json

bench: .venv/ready-dev  ## measure beside Node-RED and a script by hand (half an hour) and write bench/RESULTS.md (some: BENCH="NAME… --short")
	@sh scripts/services.sh
	@$(MAKE) $(NODE_RED) .venv/ready-bench
	@echo "bench: python -m bench $(BENCH)"
	@$(BIN)/python -m bench $(BENCH)

faults: .venv/ready-dev  ## run the fault matrix under load (about 10 minutes) and write its table into the README (some: ROWS="--row worker")
	@sh scripts/services.sh
	@echo "faults: python -m tests.faults.matrix $(or $(ROWS),--readme)"
	@$(BIN)/python -m tests.faults.matrix $(or $(ROWS),--readme)

clean:  ## remove what the other targets made (never the data folder)
	@echo "clean: .venv, caches, node_modules, build output"
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache build dist bench/out \
		tests/browser/node_modules bench/rivals/node_red/node_modules *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready: requirements.lock pyproject.toml scripts/setup.sh
	@PYTHON=$(PYTHON) sh scripts/setup.sh requirements.lock
	@touch $@

.venv/ready-dev: requirements-dev.lock requirements.lock pyproject.toml scripts/setup.sh
	@PYTHON=$(PYTHON) sh scripts/setup.sh requirements-dev.lock
	@touch .venv/ready $@

.venv/ready-bench: bench/rivals/requirements.lock scripts/bench.sh
	@PYTHON=$(PYTHON) sh scripts/bench.sh
	@touch $@

%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	@echo "setup: npm ci in $*"
	@cd $* && npm ci --loglevel=error
	@touch $@
