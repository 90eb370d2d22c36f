# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
#
# Everything from a bare machine with Python 3.10 or newer, its venv module and make:
#   make demo     run the node on a synthetic drive; writes out/demo/report.html
#   make test     run the tests but for long ones: 4 to 8 minutes on two quiet cores
#   make test-all run all tests: 12 to 25 minutes
#   make sbom     list what is installed as CycloneDX JSON: out/sbom.json
# Each target sets up what it needs first: `demo` what a robot runs, the others also the development
# tools. PYTHON=python3.12 chooses another Python.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# A sourced ROS distribution wins over the wheels; the environment then sees the system's packages.
# It sets ROS_DISTRO; rclpy alone could be the wheels of an activated environment.
ROS := $(shell test -n "$$ROS_DISTRO" && $(PYTHON) -c 'import rclpy' 2>/dev/null \
    && echo distribution || echo wheels)
READY := $(VENV)/.ready-$(ROS)
READY_DEV := $(VENV)/.ready-dev-$(ROS)
REQUIREMENTS := requirements.txt
ifeq ($(ROS),wheels)
REQUIREMENTS += requirements-ros.txt
# Packages by their SHA-256, where this Python on this platform has a list of them.
LOCK := supply_chain/$(shell $(PYTHON) -c 'import sys, sysconfig; \
    print(f"python3.{sys.version_info.minor}-{sysconfig.get_platform()}")')
else
VENV_OPTIONS := --system-site-packages
# The distribution's own pytest plugins are made for its older pytest.
PYTEST := PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(BIN)/python -m pytest \
    -p pytest_timeout -p xdist.plugin
endif
PYTEST ?= $(BIN)/python -m pytest
# Tests run in so many processes, each with 1 to 2 GB; one that has nothing left takes the other's.
WORKERS ?= 2
PARALLEL := -n $(WORKERS) --dist worksteal

PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: help setup setup-dev demo test test-all lint docs dist sbom lock format clean

help:
	@echo 'make setup | setup-dev | demo | test | test-all | lint | docs | dist | sbom | lock | format | clean'

setup: $(READY)

setup-dev: $(READY_DEV)

# Each stamp file is newer than the requirements that are installed. An environment of the other kind
# (wheels or distribution) is made anew.
$(READY): $(REQUIREMENTS) setup.py setup.cfg package.xml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo 'marigold_ros needs Python 3.10 or newer, and $(PYTHON) is not: choose one,' \
	        'as in `make setup PYTHON=python3.12`' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo '$(PYTHON) cannot make virtual environments: install its venv module' \
	        '(`sudo apt install python3-venv` on Debian and Ubuntu)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV_OPTIONS) \
	    $(if $(filter-out $(READY) $(READY_DEV),$(wildcard $(VENV)/.ready-*)),--clear) $(VENV)
	$(if $(wildcard $(LOCK).txt),$(PIP_INSTALL) --require-hashes --no-deps -r $(LOCK).txt)
	$(PIP_INSTALL) $(addprefix -r ,$(REQUIREMENTS))
# Old pips (Debian 12) would run `setup.py develop`, which new setuptools refuse.
	$(PIP_INSTALL) --use-pep517 --no-deps --editable .
	@touch $@

$(READY_DEV): requirements-dev.txt $(READY)
	$(if $(wildcard $(LOCK)-dev.txt),$(PIP_INSTALL) --require-hashes --no-deps -r $(LOCK)-dev.txt)
	$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

demo: setup
	$(BIN)/python -m marigold_ros demo --out out/demo

# Workers, and the hundreds of processes that tests start, share the modules that Python compiled.
test test-all: export PYTHONDONTWRITEBYTECODE :=

# Ten examples of each property, and not fifty.
test: setup-dev
	HYPOTHESIS_PROFILE=quick $(PYTEST) $(PARALLEL) -m 'not slow'

test-all: setup-dev
	$(PYTEST) $(PARALLEL)

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy marigold_ros training/marigold_training benchmarks

# Broken links and anchors are errors; nothing is fetched from the network.
docs: setup-dev
	$(BIN)/zensical build --clean --strict

# The sdist and, from it, the wheel.
dist: setup-dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*

sbom: setup
	@mkdir -p out
	$(BIN)/python supply_chain/sbom.py > out/sbom.json

# For this Python and platform, after a change of requirements.
lock: setup
	$(BIN)/python supply_chain/lock.py

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Keeps the environment and your results under out/ and runs/; `rm -r .venv` forces a new set-up.
clean:
	rm -rf build install log dist site .cache out/demo *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
