# Each target works as the first command in a fresh clone: it makes .venv and installs what it needs,
# once, and again only when pyproject.toml or constraints.txt change.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= cpu,otel,train,dev
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help setup demo test check bench faults service-cost bench-stream stream-faults api-check container-proof results results-train clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## */  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

setup: $(VENV)/.develop  ## install everything that developing needs into .venv

demo: $(VENV)/.serve  ## annotate the bundled clips into demo-output/
	$(BIN)/amodal demo --output demo-output

test: $(VENV)/.develop  ## run the test suite
	$(BIN)/python -m pytest -q

check: $(VENV)/.develop  ## formatting, lint, types, import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.serve  ## CPU time a frame, by stage
	$(BIN)/amodal bench

# JOBS, KILLS and FREEZES of each run under fire.
JOBS ?= 200
KILLS ?= 50
FREEZES ?= 5
FAULTS = $(BIN)/python tests/faults/fault_run.py --jobs $(JOBS) --kills $(KILLS) --freezes $(FREEZES)

faults: $(VENV)/.develop  ## kill and freeze workers while they work: no job may be lost or differ
	$(FAULTS) --database sqlite --workers 1
	$(FAULTS) --database sqlite --workers 3
	$(FAULTS) --database postgres --workers 1
	$(FAULTS) --database postgres --workers 3

service-cost: $(VENV)/.develop  ## idle memory of the server, and what it adds to the library's work
	$(BIN)/python tests/faults/service_cost.py

# LONG_FRAMES: of the long stream; IDLE_SECONDS: that the idle streams last.
LONG_FRAMES ?= 10000
IDLE_SECONDS ?= 60

bench-stream: $(VENV)/.develop  ## what live streams cost: a frame, many streams, idle, long, overload
	$(BIN)/python tests/faults/stream_bench.py --long-frames $(LONG_FRAMES) --idle-seconds $(IDLE_SECONDS)

stream-faults: $(VENV)/.develop  ## kill and restart servers under live streams; clients that break the protocol
	$(BIN)/python tests/faults/stream_faults.py

# SEED: another one generates other requests.
SEED ?= 1

api-check: $(VENV)/.develop $(VENV)/api/bin/schemathesis  ## schemathesis on a real server: all phases, all checks
	$(BIN)/python tests/faults/api_check.py --schemathesis $(abspath $(VENV))/api/bin/schemathesis --seed $(SEED)

container-proof: $(VENV)/.develop  ## the Dockerfile's steps and the compose file's services, without a container engine
	$(BIN)/python docker/prove.py

# DATASETS: benchmark folders; LABELED, SHAPES: what the runs are trained on (docs/results.md).
DATASETS ?=
LABELED ?=
SHAPES ?=
RESULTS = $(BIN)/amodal results $(addprefix --dataset ,$(DATASETS))

results: $(VENV)/.develop  ## write docs/results.md from the recorded runs
	$(RESULTS)

results-train: $(VENV)/.develop  ## train and evaluate the runs that have no record, then the same
	$(RESULTS) --train $(addprefix --labeled ,$(LABELED)) $(addprefix --shapes ,$(SHAPES))

clean:  ## remove the environment, caches and demo output
	rm -rf $(VENV) demo-output build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Serving: no torch.
$(VENV)/.serve: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing amodal for serving into $(VENV), once"
	$(INSTALL) -e '.[cpu]'
	@touch $@

$(VENV)/.develop: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing amodal with [$(EXTRAS)] into $(VENV), once; torch takes a few minutes"
	$(INSTALL) -e '.[$(EXTRAS)]'
	@touch $@ $(VENV)/.serve

# In an environment of its own: its pytest plugin would load into every run of the tests.
$(VENV)/api/bin/schemathesis: constraints.txt | $(BIN)/python
	@echo "installing schemathesis into $(VENV)/api, once"
	$(BIN)/python -m venv $(VENV)/api
	$(VENV)/api/bin/pip install --quiet --disable-pip-version-check -c constraints.txt schemathesis msgspec
	@touch $@
