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
TRACES := $(VENV)-traces
PHOENIX := $(VENV)-phoenix
CLIENTS := $(VENV)-clients
VALIDATE := $(VENV)-validate
RAY := $(VENV)-ray
PAGE := $(VENV)-page
BIN := $(VENV)/bin
LOCKS := deploy/locks
INSTALL := -m pip install --quiet --disable-pip-version-check
PIP := $(BIN)/python $(INSTALL)
TORCH_INDEX ?=
ARGS ?=

.PHONY: help serve demo test lint validate check bench chaos verify verify-phoenix demo-bundle reference dashboards lock format clean
.DEFAULT_GOAL := help
.NOTPARALLEL:

help:
	@echo "make serve        environment, then the service on 127.0.0.1:8080"
	@echo "make demo         serve, simulated shoppers, and the experiment's report"
	@echo "make test         environment with torch, then the whole default test suite"
	@echo "make validate     what deploy/ holds, by the tools that will read it: containers, compose,"
	@echo "                  Kubernetes, Envoy, systemd, dashboards and alerts"
	@echo "make check        format, lint, types, import directions, validate, then the tests"
	@echo "make bench        all measurements, with the peers: long (ARGS=--quick: shorter)"
	@echo "make chaos        cache servers that fail under load, with both clients: long"
	@echo "                  (ARGS=--quick: shorter; ARGS=--list: the faults)"
	@echo "make verify       fuzz a running service by its API document, about a minute;"
	@echo "                  keep the cache on Valkey 8 and Redis 7, and"
	@echo "                  compare TensorRT's and CUDA's real bindings with what is recorded;"
	@echo "                  serve with the GPU's packages and no driver; ask a real Triton server;"
	@echo "                  serve as the CPU image, as a pod, and behind a real Envoy; warm by Ray;"
	@echo "                  traces in a real collector and behind a real Envoy;"
	@echo "                  generate and build clients, and run them and the examples;"
	@echo "                  the live page in a real browser, Debian's Chromium"
	@echo "make verify-phoenix  traces in a store with an interface, arize-phoenix: 900 MB"
	@echo "                  (ARGS=--screenshot FILE: a picture of one)"
	@echo "make demo-bundle  make the demonstration bundle anew"
	@echo "make reference    write the pages about all commands, settings, metrics and capacity anew"
	@echo "make dashboards   write the JSON of Grafana's dashboards anew"
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

# Without the package index the checks that need no tool of it still run, and say so.
validate: $(VENV)/.dev
	@$(MAKE) --no-print-directory $(VALIDATE)/.done \
	  || echo "the validators cannot be installed, see above: what needs them is not checked" >&2
	@$(BIN)/python -m tests.validate $(VALIDATE)/bin
	@$(BIN)/python -m tests.verify_dashboards --static

check: lint validate test

bench: $(VENV)/.dev
	@$(BIN)/python -m tests.bench $(if $(filter-out --quick,$(ARGS)),,all) $(ARGS)

chaos: $(VENV)/.dev
	@$(BIN)/python -m tests.chaos $(ARGS)

verify: $(VENV)/.dev $(VERIFY)/.done $(NO_DRIVER)/.done $(TRACES)/.done $(CLIENTS)/.done $(VALIDATE)/.done $(PAGE)/.done $(RAY)/.done
	@$(BIN)/python -m tests.verify $(VERIFY)/bin/schemathesis
	@$(BIN)/python -m tests.verify_cache_servers $(VERIFY)
	@$(BIN)/python -m tests.ranking_models.tensorrt.record_signatures $(VERIFY)/bindings
	@$(BIN)/python -m tests.service.engines.tensor_rt.check_types $(VERIFY)/bindings
	@$(BIN)/python -m tests.service.engines.check_cuda $(VERIFY)/bindings
	@$(BIN)/python -m tests.service.telemetry.record_nvml $(VERIFY)/bindings
	@$(BIN)/python -m tests.ranking_models.tensorrt.without_driver $(VERIFY)/bindings
	@$(NO_DRIVER)/bin/python -m tests.verify_no_driver
	@$(TRACES)/bin/python -m tests.verify_traces
	@$(BIN)/python -m tests.verify_triton $(VENV)/bench/peers
	@$(BIN)/python -m tests.verify_commands
	@$(BIN)/python -m tests.verify_docs
	@$(BIN)/python -m tests.verify_metrics
	@$(BIN)/python -m tests.verify_deploy $(VALIDATE)/bin
	@$(RAY)/bin/python -m tests.verify_ray
	@$(BIN)/python -m tests.verify_clients $(CLIENTS)
	@$(BIN)/python -m tests.verify_dashboards
	@$(PAGE)/bin/python -m tests.verify_page $(BIN)/python

verify-phoenix: $(TRACES)/.done $(PHOENIX)/.done
	@$(TRACES)/bin/python -m tests.verify_traces --phoenix $(PHOENIX)/bin $(ARGS)

demo-bundle: $(VENV)/.dev
	@$(BIN)/podium demo-bundle $(ARGS)

dashboards: $(VALIDATE)/.done
	@$(VALIDATE)/bin/python -B deploy/grafana/source

reference: $(VENV)/.dev
	@$(BIN)/python -m service.cli.reference
	@$(BIN)/python -m service.settings.reference
	@$(BIN)/python -m tests.support.telemetry_reference
	@$(BIN)/python -m tests.support.capacity_page

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
	@echo "installing schemathesis and Valkey 8 in $(VERIFY)"
	@$(VERIFY)/bin/python $(INSTALL) --require-hashes -r $(LOCKS)/verify.txt
	@touch $@

# Of its own, for onnxruntime-gpu stands in the place of onnxruntime.
$(NO_DRIVER)/.done: $(LOCKS)/no-driver.txt pyproject.toml | $(NO_DRIVER)/bin/python
	@echo "installing onnxruntime-gpu in $(NO_DRIVER) (250 MB)"
	@$(NO_DRIVER)/bin/python $(INSTALL) --require-hashes -r $(LOCKS)/no-driver.txt
	@$(NO_DRIVER)/bin/python $(INSTALL) --no-build-isolation --no-deps -e .
	@touch $@

# Of its own: programs, and their libraries are none of ours.
$(VALIDATE)/.done: $(LOCKS)/validate.txt | $(VALIDATE)/bin/python
	@echo "installing validators in $(VALIDATE) (Envoy: 100 MB)"
	@$(VALIDATE)/bin/python $(INSTALL) --retries 2 --timeout 15 --require-hashes -r $(LOCKS)/validate.txt
	@touch $@

# Of its own: Node.js and what builds wheels have nothing to do with serving.
$(CLIENTS)/.done: $(LOCKS)/clients.txt | $(CLIENTS)/bin/python
	@echo "installing Node.js and what builds the client in $(CLIENTS) (70 MB)"
	@$(CLIENTS)/bin/python $(INSTALL) --require-hashes -r $(LOCKS)/clients.txt
	@touch $@

# Of its own, for it has the extra for OTLP over gRPC, a collector and Envoy.
$(TRACES)/.done: $(LOCKS)/traces.txt pyproject.toml | $(TRACES)/bin/python
	@echo "installing rotel and Envoy in $(TRACES) (300 MB)"
	@$(TRACES)/bin/python $(INSTALL) --require-hashes -r $(LOCKS)/traces.txt
	@$(TRACES)/bin/python $(INSTALL) --no-build-isolation --no-deps -e .
	@touch $@

$(PHOENIX)/.done: $(LOCKS)/phoenix.txt | $(PHOENIX)/bin/python
	@echo "installing arize-phoenix in $(PHOENIX) (900 MB; Elastic licence 2.0)"
	@$(PHOENIX)/bin/python $(INSTALL) --require-hashes -r $(LOCKS)/phoenix.txt
	@touch $@

# Of its own: the library that drives Debian's browser, which nothing else needs.
$(PAGE)/.done: $(LOCKS)/page.txt | $(PAGE)/bin/python
	@echo "installing playwright in $(PAGE), without its browsers (120 MB)"
	@$(PAGE)/bin/python $(INSTALL) --require-hashes -r $(LOCKS)/page.txt
	@touch $@

# Of its own, for nothing else needs Ray.
$(RAY)/.done: $(LOCKS)/ray.txt pyproject.toml | $(RAY)/bin/python
	@echo "installing Ray in $(RAY) (100 MB)"
	@$(RAY)/bin/python $(INSTALL) --require-hashes -r $(LOCKS)/ray.txt
	@$(RAY)/bin/python $(INSTALL) --no-build-isolation --no-deps -e .
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
	  -c $(LOCKS)/serve.txt --extra cpu --extra grpc pyproject.toml $(LOCKS)/build.in \
	  $(LOCKS)/traces.in -o $(LOCKS)/traces.txt
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  $(LOCKS)/phoenix.in -o $(LOCKS)/phoenix.txt
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  $(LOCKS)/uv.in -o $(LOCKS)/uv.txt
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  -c $(LOCKS)/serve.txt --extra cpu --extra triton pyproject.toml -o $(LOCKS)/cpu.txt
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  -c $(LOCKS)/cpu.txt --extra gpu --extra triton pyproject.toml $(LOCKS)/gpu.in -o $(LOCKS)/gpu.txt
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  -c $(LOCKS)/serve.txt --extra cpu pyproject.toml $(LOCKS)/build.in $(LOCKS)/ray.in -o $(LOCKS)/ray.txt
	@for tools in image-build validate page; do \
	  $(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  $(LOCKS)/$$tools.in -o $(LOCKS)/$$tools.txt || exit 1; done
	@for lock in $(LOCKS)/clients deploy/clients/examples/marketplace/requirements; do \
	  $(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	  $$lock.in -o $$lock.txt || exit 1; done
	@for peer in $(LOCKS)/peers/*.in; do \
	  $(BIN)/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-header \
	  $$peer -o $${peer%.in}.txt || exit 1; done
	@echo "train.txt is pinned by hand: it lists the train extra and what only that needs"

clean:
	@rm -rf $(VENV) $(VERIFY) $(NO_DRIVER) $(TRACES) $(PHOENIX) $(CLIENTS) $(VALIDATE) $(RAY) $(PAGE) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
