# Two commands are all a newcomer types: `make demo` and `make test`. Both set up .venv by themselves.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test chaos check format lock clean wheel bench bench-gate bench-growth fuzz soak

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found. Install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY) ## both stacks, a live migration of auth and payments (DEMO=once: stop at the end)
	$(BIN)/python -m tests.acceptance.demo

test: $(READY) ## every test tier; what could not run is listed last
	$(BIN)/pytest -m "not chaos"

chaos: $(READY) ## flips, cutovers, outages and kills under traffic (about 6 minutes)
	$(BIN)/pytest -m chaos -s tests/acceptance

fuzz: $(READY) ## hostile bytes at the proxy, no two runs alike (SECONDS=60)
	SECONDS=$(or $(SECONDS),60) $(BIN)/pytest tests/fuzz/fuzz_requests.py -s

soak: $(READY) ## bodies of 1 GiB and 5,000 bad clients through a proxy, in flat memory
	STRANGLER_TEST_BULK_BYTES=$$((1 << 30)) STRANGLER_TEST_CROWD=5000 \
		$(BIN)/pytest tests/integration/test_serve_bulk.py tests/integration/test_serve_crowds.py

check: $(READY) ## style, types, architecture contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## write the code the way ruff formats it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY) ## write the hash-locked requirements files anew
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--all-extras pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--extra examples pyproject.toml -o requirements/examples.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
		requirements/bench.in -o requirements/bench.txt

bench: $(READY) ## everybody side by side: CPU per request, as a table, JSON and a picture
	$(BIN)/python -m tests.benchmarks.run --json var/bench/bench.json --picture docs/pictures/bench.svg $(BENCH)

bench-gate: $(READY) ## fail where a request costs more CPU than with Envoy in the same run
	$(BIN)/python -m tests.benchmarks.run --gate

bench-growth: $(READY) ## how cost grows: routes, idle connections, body size, processes
	$(BIN)/python -m tests.benchmarks.growth

wheel: $(READY) ## the toolkit alone, as a wheel in dist/
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation -w dist .

clean: ## remove .venv and what the demo keeps
	rm -rf .venv var dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
