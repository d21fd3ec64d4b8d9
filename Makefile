# Everything a newcomer needs: `make demo` and `make test` set up all they use, from nothing.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export TOKENIZERS_PARALLELISM ?= false
# As the command line sets it: training beside another busy process then does not all but stop.
export GOMP_SPINCOUNT ?= 20000

.PHONY: demo check test test-slow test-deepspeed test-gpu golden readme screenshots bench peers clean

demo: $(READY)  ## crawl to served model in under ten minutes
	$(BIN)/gristmill run --recipe demo

check: $(READY)  ## format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(READY)  ## the tests, fast parts first
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: $(READY)  ## fault rehearsals, official benchmarks from a mirror, the browser
	$(BIN)/python -m pytest -m slow

test-deepspeed: .deepspeed/.ready  ## DeepSpeed's ZeRO, which lies beside the rest: transformers imports it wherever it finds it
	PYTHONPATH=.deepspeed $(BIN)/python -m pytest tests/pretraining/test_zero.py

test-gpu: $(READY)  ## what needs an accelerator
	$(BIN)/python -m pytest -m gpu

golden: $(READY)  ## record the golden files again, after a stage's version was raised
	$(BIN)/python -m pytest tests/test_golden.py --record-golden

readme: $(READY)  ## write the README's file tree and docs/cli.md anew, from the code
	$(BIN)/python -m tests.readme_tree
	$(BIN)/python -m deployments.manual

screenshots: $(READY)  ## docs/ui-*.png anew, by the browser tests (Chromium is needed)
	$(BIN)/python -m pytest -m slow tests/flows/test_browser.py --screenshots

bench: $(READY) peers  ## every claim of speed or quality, ours and the peer side by side, into docs/benchmarks.md
	$(BIN)/python benchmarks/table.py

peers: .venv-peers/.ready  ## the environment of the tools that we are compared with

.venv-peers/.ready: constraints-peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --requirement constraints-peers.txt
	touch $@

clean:  ## remove the environment; the store of artifacts stays
	rm -rf .venv .venv-peers .deepspeed

# What of its dependencies the rest has not: its build looks at the torch that is there.
.deepspeed/.ready: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation --no-deps \
		--upgrade --target .deepspeed deepspeed einops hjson msgpack ninja py-cpuinfo
	@touch .deepspeed/.ready

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)
