# MoMo on Ray. `make demo` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# From source: a GPU machine's own Python serves, with its own torch.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: setup demo icons test test-slow lint format bench bench-gpu dashboard serve cluster-check cluster-env clean help

help:            ## this list
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  +##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/ —/'

setup: $(STAMP)  ## make .venv with the locked dependencies (done once)

$(STAMP): requirements.lock pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/setup.sh
	@touch $(STAMP)

demo: $(STAMP)   ## the whole job on a laptop: three training stages, evaluation, report
	@$(BIN)/python pipelines/full.py --preset demo $(ARGS)

icons: $(STAMP)  ## the same on 60,000 icons, in about an hour on two cores (ARGS="--budget evening")
	@$(BIN)/python pipelines/full.py --preset icons --budget hour $(ARGS)

test: $(STAMP)   ## the tests, one full smoke run through Ray included
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: $(STAMP) ## tests that take minutes each
	@$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(STAMP)   ## ruff, pyright, import-linter, names of tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@twice=$$(find tests -name 'test_*.py' | sed 's|.*/||' | sort | uniq -d); \
	[ -z "$$twice" ] || { echo "tests: $$twice stands in two folders; pytest needs names that differ"; exit 1; }

format: $(STAMP) ## let ruff fix and format
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(STAMP)  ## every benchmark, JSON on standard output
	-@$(BIN)/python experiments/benchmarks/startup.py $(ARGS)
	-@$(BIN)/python experiments/benchmarks/graph.py $(ARGS)
	-@$(BIN)/python experiments/benchmarks/data.py $(ARGS)
	-@$(BIN)/python experiments/benchmarks/model.py $(ARGS)
	-@$(BIN)/python experiments/benchmarks/training.py $(ARGS)
	-@$(BIN)/python experiments/benchmarks/scaling.py $(ARGS)
	-@$(BIN)/python experiments/benchmarks/evaluation.py $(ARGS)
	-@$(BIN)/python experiments/benchmarks/serving.py $(ARGS)

bench-gpu:       ## what one GPU makes of it in seven minutes, runs/gpu.json (ARGS="--only PART", "--quick")
	@mkdir -p runs
	@PYTHONPATH="$(CURDIR):$(CURDIR)/platform:$$PYTHONPATH" \
		$(GPU_PYTHON) experiments/benchmarks/gpu.py --out runs/gpu.json $(ARGS)

dashboard: $(STAMP) ## all runs and sweeps, live, on 127.0.0.1 (ARGS="--sweep NAME")
	@$(BIN)/python -m momo_platform.sweeps.dashboard $(ARGS)

serve: $(STAMP)  ## the embeddings endpoint with the newest exported model (ARGS="--index FOLDER")
	@$(BIN)/python pipelines/serve.py $(ARGS)

cluster-check: $(STAMP) ## cluster.yaml offline: Ray's schema, what is open, whether base and large fit
	@$(BIN)/python pipelines/cluster_check.py $(ARGS)

cluster-env:     ## what a cluster's nodes need from this shell's environment, into .cluster/
	@sh scripts/cluster_env.sh

clean:           ## remove .venv and caches (runs/ stays)
	rm -rf $(VENV) .pytest_cache .ruff_cache
