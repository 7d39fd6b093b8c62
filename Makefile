# Every target sets up what it needs: Python 3.11 to 3.13 and make, nothing else.
#
#   make PYTHON=/path/to/python3.12 serve   another interpreter
#   make TORCH_INDEX=<url> test             where the CPU build of torch comes from, for
#                                           machines whose default index gives the CUDA one
#                                           (the "CPU" index that pytorch.org names)
#   make ARGS="--port 9000" serve           flags for the command behind the target

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
  && echo $$p && break; done)
VENV ?= .venv
VERIFY := $(VENV)-verify
NO_DRIVER := $(VENV)-no-driver
BIN := $(VENV)/bin
LOCKS := deploy/locks
INSTALL := -m pip install --quiet --disable-pip-version-check
PIP := $(BIN)/python $(INSTALL)
TORCH_INDEX ?=
ARGS ?=

.PHONY: help serve demo test lint check bench chaos verify demo-bundle lock format clean
.DEFAULT_GOAL := help
.NOTPARALLEL:

help:
	@echo "make serve        environment, then the service on 127.0.0.1:8080"
	@echo "make demo         serve, simulated shoppers, and the experiment's report"
	@echo "make test         environment with torch, then the whole default test suite"
	@echo "make check        format, lint, types, import directions, then the tests"
	@echo "make bench        all measurements, with the peers: long (ARGS=--quick: shorter)"
	@echo "make chaos        cache servers that fail under load, with both clients: long"
	@echo "                  (ARGS=--quick: shorter; ARGS=--list: the faults)"
	@echo "make verify       fuzz a running service by its API document, about a minute, and"
	@echo "                  compare TensorRT's and CUDA's real bindings with what is recorded;"
	@echo "                  serve with the GPU's packages and no driver; ask a real Triton server"
	@echo "make demo-bundle  make the demonstration bundle anew"
	@echo "make lock         resolve the locks anew"

serve: $(VENV)/.serve
	@exec $(BIN)/podium serve $(ARGS)

demo: $(VENV)/.serve
	@exec $(BIN)/podium demo $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint test

bench: $(VENV)/.dev
	@$(BIN)/python -m tests.bench $(if $(filter-out --quick,$(ARGS)),,all) $(ARGS)

chaos: $(VENV)/.dev
	@$(BIN)/python -m tests.chaos $(ARGS)

verify: $(VENV)/.dev $(VERIFY)/.done $(NO_DRIVER)/.done
	@$(BIN)/python -m tests.verify $(VERIFY)/bin/schemathesis
	@$(BIN)/python -m tests.ranking_models.tensorrt.record_signatures $(VERIFY)/bindings
	@$(BIN)/python -m tests.service.engines.tensor_rt.check_types $(VERIFY)/bindings
	@$(BIN)/python -m tests.service.engines.check_cuda $(VERIFY)/bindings
	@$(BIN)/python -m tests.ranking_models.tensorrt.without_driver $(VERIFY)/bindings
	@$(NO_DRIVER)/bin/python -m tests.verify_no_driver
	@$(BIN)/python -m tests.verify_triton $(VENV)/bench/peers

demo-bundle: $(VENV)/.dev
	@$(BIN)/podium demo-bundle $(ARGS)

format: $(VENV)/.dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# A venv that failed (Debian: without python3-venv) leaves an interpreter without pip.
%/bin/python:
	@test -n "$(PYTHON)" || { echo "podium needs Python 3.11, 3.12 or 3.13; set PYTHON=/path/to/it" >&2; exit 2; }
	@echo "making the environment in $* with $(PYTHON)"
	@$(PYTHON) -m venv $* || { rm -f $@; exit 1; }

$(VENV)/.serve: $(LOCKS)/serve.txt pyproject.toml | $(BIN)/python
	@echo "installing what serving needs"
	@$(PIP) --require-hashes -r $(LOCKS)/serve.txt
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.serve $(LOCKS)/dev.txt $(LOCKS)/train.txt
	@echo "installing what development and training need (torch: about 200 MB)"
	@$(PIP) --require-hashes -r $(LOCKS)/dev.txt
	@$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url $(TORCH_INDEX) $$(grep '^torch==' $(LOCKS)/train.txt))
	@$(PIP) -r $(LOCKS)/train.txt
	@touch $@

# Of its own, for schemathesis pins versions that development does not share.
$(VERIFY)/.done: $(LOCKS)/verify.txt | $(VERIFY)/bin/python
	@echo "installing schemathesis in $(VERIFY)"
	@$(VERIFY)/bin/python $(INSTALL) --require-hashes -r $(LOCKS)/verify.txt
	@touch $@

# Of its own, for onnxruntime-gpu stands in the place of onnxruntime.
$(NO_DRIVER)/.done: $(LOCKS)/no-driver.txt pyproject.toml | $(NO_DRIVER)/bin/python
	@echo "installing onnxruntime-gpu in $(NO_DRIVER) (250 MB)"
	@$(NO_DRIVER)/bin/python $(INSTALL) --require-hashes -r $(LOCKS)/no-driver.txt
	@$(NO_DRIVER)/bin/python $(INSTALL) --no-build-isolation --no-deps -e .
	@touch $@

# Universal for Python 3.11 to 3.13; `train` is pinned without hashes, since
# the torch wheel differs between its CPU and CUDA builds.
lock: $(VENV)/.dev
	@$(PIP) --require-hashes -r $(LOCKS)/uv.txt
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  --extra cpu pyproject.toml $(LOCKS)/build.in -o $(LOCKS)/serve.txt
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  --extra cpu --extra dev -c $(LOCKS)/serve.txt pyproject.toml $(LOCKS)/build.in -o $(LOCKS)/dev.txt
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  $(LOCKS)/verify.in -o $(LOCKS)/verify.txt
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  -c $(LOCKS)/serve.txt pyproject.toml $(LOCKS)/build.in $(LOCKS)/no-driver.in -o $(LOCKS)/no-driver.txt
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  $(LOCKS)/uv.in -o $(LOCKS)/uv.txt
	@for peer in $(LOCKS)/peers/*.in; do \
	  $(BIN)/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-header \
	  $$peer -o $${peer%.in}.txt || exit 1; done
	@echo "train.txt is pinned by hand: it lists the train extra and what only that needs"

clean:
	@rm -rf $(VENV) $(VERIFY) $(NO_DRIVER) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
