# `make demo` and `make test` do all their own set-up, in .venv, and can be run again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# What to run models with: cpu, or cuda for NVIDIA GPUs (make ENGINE=cuda test-gpu). Both in one
# .venv do not go together: make clean first.
ENGINE ?= cpu
# Processes that run tests, each with daemons of its own. Tests of one file stay together.
JOBS ?= 2
OCR := rapidocr-onnxruntime>=1.4,<2

.PHONY: help demo test test-slow test-gpu check audit bench proto chart dashboards clean

help:  ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

# The OCR package is wanted for its models only: without its dependencies nothing needs a screen
# or a C++ library.
$(READY): pyproject.toml Makefile
	@echo "Setting up $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(ENGINE),test]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps '$(OCR)'
	@touch $(READY)

# promtool and prometheus check the metrics, helm the chart, chromium the status page. Where they
# can not be had, their tests say so.
$(VENV)/tools: $(READY)
	@sh tools/get_prometheus.sh $(VENV)/tools
	@sh tools/get_helm.sh $(VENV)/tools
	@sh tools/get_chromium.sh $(VENV)/tools

demo: $(READY)  ## Serve three OCR models and read text from images of many sizes.
	@$(BIN)/python -m examples.ocr.demo

test: $(READY) $(VENV)/tools  ## Run the tests.
	@PATH="$(CURDIR)/$(VENV)/tools:$$PATH" $(BIN)/python -m pytest \
	  -m "not slow and not gpu" --numprocesses $(JOBS) --dist loadfile

test-slow: $(READY) $(VENV)/tools  ## Run the tests that take long.
	@PATH="$(CURDIR)/$(VENV)/tools:$$PATH" $(BIN)/python -m pytest -m "slow and not gpu"

test-gpu: $(READY)  ## Run the tests that need an NVIDIA GPU (with ENGINE=cuda).
	@$(BIN)/python -m pytest -m gpu

check: $(READY)  ## Types and style.
	@$(BIN)/ruff check .
	@$(BIN)/mypy

audit: $(READY)  ## Look at the dependencies: known ones, their licences, known flaws.
	@test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && \
	  $(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; } || true
	@PATH="$(CURDIR)/$(VENV)/audit/bin:$$PATH" $(BIN)/python tools/audit.py

bench: $(READY)  ## Measure against a bare gRPC echo (see docs/benchmarks.md).
	@$(BIN)/python -m benchmarks.serving

chart: $(READY)  ## Make the chart's values.schema.json again from the settings.
	@$(BIN)/python tools/make_chart_schema.py

proto: $(READY)  ## Make trtserve/proto again from protos/.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[proto]'
	@$(BIN)/python tools/make_proto.py

dashboards: $(READY)  ## Make the chart's dashboards and alerts again from tools/monitoring.
	@$(BIN)/python tools/make_dashboards.py

clean:  ## Remove what the targets made.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
