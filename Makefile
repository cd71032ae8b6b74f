VENV := .venv
PYTHON_IN := $(VENV)/bin/python
# A machine with an NVIDIA GPU gets vLLM's own build and none of the CPU set-up; KIND=cpu overrides.
KIND ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
# Options and paths for pytest: make test ARGS='tests/test_chat.py -x'
ARGS ?=
# Test files that run at once; the tests of a file share their engines and runs.
JOBS ?= 2
CACHES := .pytest_cache .mypy_cache .ruff_cache .hypothesis

.DEFAULT_GOAL := help
.PHONY: help setup demo evidence bench-peers test coverage test-families test-faults check format hooks clean

help: ## Print this list of targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Install the project and its pinned dependencies into .venv

$(VENV)/.ready: pyproject.toml .ci/install .ci/constraints-$(KIND).txt .ci/torchvision_ops.py
	.ci/install $(VENV) $(KIND)
	touch $@

demo: setup ## Run the main job on the embedded models and write the output to runs/demo
	$(PYTHON_IN) -m jobs.demo

evidence: setup ## Measure the claims in the world of scenes, and write tests/evidence; takes hours
	$(PYTHON_IN) -m tests.evidence $(ARGS)

bench-peers: setup ## Compare whole jobs with what others do, at several batch sizes; takes hours, not for CI
	$(PYTHON_IN) -m tests.bench.pipeline --peer-repeats 3 --batch-sizes 8 16 32 64 --minutes 240 $(ARGS)

test: setup ## Run the test suite; ARGS passes options to pytest
	$(PYTHON_IN) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

coverage: setup ## Run the test suite and print the lines that no test runs; ARGS as for test
	$(MAKE) test ARGS='--cov --cov-report=term-missing:skip-covered $(ARGS)'

test-families: setup ## Test every model family and print the table of jobs/README.md; ARGS as for test
	$(PYTHON_IN) -m pytest tests/families tests/train/test_families.py -m '' $(ARGS)

test-faults: setup ## Kill jobs that read and commit 300 times, and count their records; ARGS='--kills 1000'
	$(PYTHON_IN) -m tests.faults.commit_kills $(ARGS)

check: setup ## Check the format, the lint rules and the types, and change nothing
	$(PYTHON_IN) -m ruff format --check .
	$(PYTHON_IN) -m ruff check .
	$(PYTHON_IN) -m mypy

format: setup ## Format the code and fix the lint errors that ruff can fix
	$(PYTHON_IN) -m ruff check --fix-only .
	$(PYTHON_IN) -m ruff format .

hooks: setup ## Install the git hook that checks the format and the lint rules before each commit
	$(PYTHON_IN) -m pre_commit install

clean: ## Remove .venv, the caches and runs/demo, and keep every other run
	@echo "removing $(VENV), $(CACHES), __pycache__ and runs/demo"
	@rm -rf $(VENV) $(CACHES) runs/demo
	@find .ci c3l_ray jobs tests -type d -name __pycache__ -prune -exec rm -rf {} +
