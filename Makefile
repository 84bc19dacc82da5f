# Two commands are all a newcomer types: `make demo` and `make test`. Both set up .venv by themselves.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
BIN := .venv/bin
READY := .venv/.ready

# Figures are of a Python that was optimised by a profile, as the distributions' and the official images' are, where
# there is one with venv: others take half as long again for the same code.
OPTIMISED := import ensurepip, sys, sysconfig; sys.exit(sys.version_info < (3, 11) or not (sys.base_prefix == "/usr" \
	or "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")))
BENCH_PYTHON ?= $(shell for p in $(PYTHON) /usr/local/bin/python3 /usr/bin/python3; do \
	if $$p -c '$(OPTIMISED)' >/dev/null 2>&1; then echo $$p; exit; fi; done; echo $(PYTHON))
BENCH_VENV = $(if $(filter $(PYTHON),$(BENCH_PYTHON)),.venv,.venv-optimised)
BENCH_BIN = $(BENCH_VENV)/bin
BENCH_READY = $(BENCH_VENV)/.ready

.PHONY: help demo test chaos check format lock clean wheel bench bench-gate bench-growth bench-sync million fuzz soak corpus-compare prove \
	prove-directed prove-bugs prove-account shadow-proof

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found. Install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	$(call environment,$(PYTHON),.venv)

.venv-optimised/.ready: requirements/dev.txt pyproject.toml
	$(call environment,$(BENCH_PYTHON),.venv-optimised)

define environment
	$(1) -m venv $(2)
	$(2)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(2)/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(2)/.ready
endef

demo: $(READY) ## both stacks, a live migration of auth and payments (DEMO=once: stop at the end)
	$(BIN)/python -m tests.acceptance.demo

test: $(READY) ## every test tier; what could not run is listed last
	$(BIN)/pytest -m "not chaos and not long"

chaos: $(READY) ## flips, cutovers, outages and kills under traffic, and what else takes long (about half an hour)
	$(BIN)/pytest -m "chaos or long" -s tests/acceptance tests/integration

fuzz: $(READY) ## hostile bytes at the proxy and at its ASGI mode, no two runs alike (SECONDS=60, and half as long)
	SECONDS=$(or $(SECONDS),60) $(BIN)/pytest tests/fuzz/fuzz_requests.py tests/fuzz/fuzz_asgi.py -s

soak: $(READY) ## 10,000 bad clients, 200 slow readers, 1 GiB up and down: memory and a good client's p99 (about 3 minutes)
	ulimit -n $$(ulimit -H -n) && $(BIN)/pytest tests/soak/soak_clients.py -s

prove: $(READY) ## cutovers under faults, judged by a checker (MINUTES=5, SEED= for the same again, CAST=full)
	$(BIN)/python -m tests.prove.run

prove-directed: $(READY) ## every step of a cutover, before and after, killed, stopped and cut off (about 25 minutes)
	$(BIN)/python -m tests.prove.run --directed

prove-bugs: $(READY) ## twenty seeded bugs: which of them the proof catches (about 15 minutes)
	$(BIN)/python -u -m tests.prove.run --bugs

prove-account: $(READY) ## all proofs of this checkout, added up
	$(BIN)/python -m tests.prove.run --account

corpus-compare: $(READY) ## the corpus of hostile bytes against NGINX, HAProxy and Envoy too, written into the docs
	$(BIN)/python -m tests.corpus.compare

shadow-proof: $(READY) ## shadow mode held to its promises, at length (about 40 minutes; REQUESTS=20000 MINUTES=10 PAYMENTS=10000)
	REQUESTS=$(or $(REQUESTS),20000) MINUTES=$(or $(MINUTES),10) PAYMENTS=$(or $(PAYMENTS),10000) \
		$(BIN)/pytest -m chaos -s $(wildcard tests/acceptance/test_shadow_*.py)

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
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
		requirements/httpbin.in -o requirements/httpbin.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
		requirements/oscar.in -o requirements/oscar.txt

bench: $(BENCH_READY) ## everybody side by side: CPU per request, as a table, JSON and a picture
	$(BENCH_BIN)/python -m tests.benchmarks.run --json var/bench/bench.json --picture docs/pictures/bench.svg $(BENCH)

bench-gate: $(READY) ## fail where a request costs more CPU than with Envoy in the same run
	$(BIN)/python -m tests.benchmarks.run --gate

bench-growth: $(BENCH_READY) ## how cost grows: routes, idle connections, body size, processes
	$(BENCH_BIN)/python -m tests.benchmarks.growth

bench-sync: $(BENCH_READY) ## keeping rows in step, as ratios: copy, verify, capture, lag, hold (about 4 minutes; GROWTH=yes: 15)
	$(BENCH_BIN)/python -m tests.benchmarks.sync_run --json var/bench/sync.json --page docs/explanation/figures.md

million: $(READY) ## 1,000,000 payments moved under 500 writes a second, and the account (about 6 minutes; ROWS=1000000)
	$(BIN)/python -m tests.million.run --json var/bench/million.json --page docs/explanation/figures.md

wheel: $(READY) ## the toolkit alone, as a wheel in dist/
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation -w dist .

clean: ## remove the environments and what the demo keeps
	rm -rf .venv .venv-* var dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
