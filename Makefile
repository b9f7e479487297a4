# DPO Studio. `make help` lists the commands.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# CUDA=1 installs the packages of a machine with an NVIDIA GPU.
REQUIREMENTS := requirements$(if $(filter-out 0,$(CUDA)),-cuda).txt
TORCH := $(shell sed -n 's/^torch==/torch==/p' $(REQUIREMENTS))
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
UNUSED_PACKAGES := torchvision torchaudio torchcodec

PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
  "$$name" -c 'import ensurepip, venv' 2> /dev/null && { command -v "$$name"; break; }; done || true)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# What is imported is compiled then; all of it would take a minute and a half more.
INSTALL := $(PIP) install --no-compile

# The stamps are named after what was installed and are written last: another interpreter, a changed pin or an install
# that did not finish means another stamp or none, and the environment is made anew.
RUN_KEY := $(shell { "$(PYTHON)" -VV; cat requirements-base.txt $(REQUIREMENTS); } 2>&1 | sha256sum | cut -c 1-16)
DEV_KEY := $(shell sha256sum requirements-dev.txt | cut -c 1-16)
RUN_STAMP := $(VENV)/.installed-$(RUN_KEY)
DEV_STAMP := $(RUN_STAMP)-dev-$(DEV_KEY)

FAST_TESTS := not engine and not browser and not slow

.PHONY: help
help: ## list the commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: run
run: $(RUN_STAMP) ## install what is missing, start everything, print the address (PORT, STUDIO_HOME, CUDA=1)
	@$(BIN)/python -m dpo_studio.processes.demo_model
	@exec $(BIN)/python -m dpo_studio.processes up

.PHONY: loop
loop: $(RUN_STAMP) ## go around the loop three times without a person and print what was learned (LOOP_ARGS)
	@$(BIN)/python -m dpo_studio.processes.demo_model
	@exec $(BIN)/python -m dpo_studio.loop $(LOOP_ARGS)

.PHONY: test
test: $(DEV_STAMP) browser ## set up and run every test
	@$(BIN)/python -m dpo_studio.processes.demo_model
	@# Exit code 5: PYTEST_ARGS chose no test of this half.
	@$(BIN)/python -m pytest -n 2 -m "$(FAST_TESTS)" $(PYTEST_ARGS) || [ $$? = 5 ]
	@$(BIN)/python -m pytest -n 2 --dist loadscope -m "not ($(FAST_TESTS))" $(PYTEST_ARGS) || [ $$? = 5 ]

.PHONY: test-fast
test-fast: $(DEV_STAMP) ## the tests without engine, browser and long waits (3 to 4 minutes on two cores)
	@exec $(BIN)/python -m pytest -n 2 -m "$(FAST_TESTS)" $(PYTEST_ARGS)

.PHONY: bench-train
bench-train: $(DEV_STAMP) ## our trainer and TRL side by side: speed, memory (20 minutes; BENCH_ARGS=--quick: 3)
	@$(BIN)/python -m dpo_studio.processes.demo_model
	@exec $(BIN)/python -m benchmarks.train $(BENCH_ARGS)

.PHONY: check
check: $(DEV_STAMP) ## style, types, import rules, Django's checks, migrations (under a minute)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python manage.py check
	$(BIN)/python manage.py makemigrations --check --dry-run

.PHONY: beta-sweep
beta-sweep: $(DEV_STAMP) ## train the demo model with four values of β and draw what they do (about 10 minutes)
	@$(BIN)/python -m dpo_studio.processes.demo_model
	@exec $(BIN)/python -m benchmarks.beta_sweep

.PHONY: bench-web
bench-web: $(DEV_STAMP) browser ## measure labelling: label cycle over HTTP, key press to next pair (BENCH_ARGS=--quick)
	@$(BIN)/python -m benchmarks.web $(BENCH_ARGS)
	@exec $(BIN)/python -m benchmarks.web.keys

.PHONY: bench-turnaround
bench-turnaround: $(DEV_STAMP) ## last label to the next round's first pair, beside TRL and a vLLM restart (BENCH_ARGS=--quick)
	@$(BIN)/python -m dpo_studio.processes.demo_model
	@exec $(BIN)/python -m benchmarks.turnaround $(BENCH_ARGS)

.PHONY: bench-pages
bench-pages: $(DEV_STAMP) ## measure the lead's pages at 20 rounds and 50,000 pairs (5 minutes; BENCH_ARGS=--quick: 1)
	@exec $(BIN)/python -m benchmarks.pages $(BENCH_ARGS)

.PHONY: fault-campaign
fault-campaign: $(DEV_STAMP) ## fifty annotators with bad luck on 2,000 pairs, on SQLite and on PostgreSQL
	@$(BIN)/python -m tests.faults.campaign --database sqlite
	@exec $(BIN)/python -m tests.faults.campaign --database postgresql

.PHONY: screenshots
screenshots: $(DEV_STAMP) browser ## take the README's pictures from the product that `make run` has up (PORT, SHOT_ARGS)
	@exec $(BIN)/python -m docs.screenshots $(SHOT_ARGS)

.PHONY: fix
fix: $(DEV_STAMP) ## format, and repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean: ## delete the virtual environment and caches (var/, with labels and adapters, stays)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN_STAMP):
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2> /dev/null || { \
	  echo "DPO Studio needs Python 3.11, 3.12 or 3.13 with its venv module (Debian, Ubuntu: apt install" \
	       "python3-venv); found '$(PYTHON)'. Name another one: make run PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing into $(VENV) (once; about 2 minutes and 4 GB) …"
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV)
	@$(INSTALL) '$(TORCH)' 2> $(VENV)/torch-install.log || { \
	  echo "$(TORCH) is not on the configured package index; asking PyTorch's own CPU index …"; \
	  $(INSTALL) --extra-index-url $(TORCH_CPU_INDEX) '$(TORCH)'; }
	@$(INSTALL) -r $(REQUIREMENTS)
	@# Text models need none of these, and a build that does not match torch breaks `import transformers`.
	@$(PIP) uninstall --yes $(UNUSED_PACKAGES) 2> /dev/null
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	@echo "Installing what tests and checks need (once) …"
	@$(INSTALL) -r requirements-base.txt -r requirements-dev.txt
	@touch $@

# Without a browser the browser tests are left out, and the end of the test run says so.
.PHONY: browser
browser:
	@command -v chromium chromium-browser google-chrome > /dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	    echo "Installing Chromium for the browser tests (once) …"; \
	    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
	      apt-get -qq install --yes --no-install-recommends chromium fonts-dejavu-core; } > /dev/null \
	      || echo "Chromium could not be installed." >&2; \
	  fi; }
