VENV := .venv
PYTHON_IN := $(VENV)/bin/python
# A machine with an NVIDIA GPU gets vLLM's own build and none of the CPU set-up; KIND=cpu overrides.
KIND ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-families check

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Install everything into .venv; quick when nothing changed

$(VENV)/.ready: pyproject.toml .ci/install .ci/torchvision_ops.py
	.ci/install $(VENV) $(KIND)
	touch $@

demo: setup ## The main job end to end on the embedded models, into runs/demo
	$(PYTHON_IN) -m jobs.demo

test: setup ## The whole test suite
	$(PYTHON_IN) -m pytest

test-families: setup ## Every model family in vLLM and transformers; prints the README's table
	$(PYTHON_IN) -m pytest tests/families tests/train/test_families.py -m ''

check: setup ## Format, lint and types
	$(PYTHON_IN) -m ruff format --check .
	$(PYTHON_IN) -m ruff check .
	$(PYTHON_IN) -m mypy
