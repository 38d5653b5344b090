# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
# Everything needs only this file: each target first makes .build/venv and installs missing packages.

PYTHON := .build/venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo demo-down unit test test-faults test-crash bench lint bootstrap clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' Makefile

demo: ## build a virtual GPU host, take it from bare to running vGPUs, and say how to look at it
	@tests/tools/bootstrap demo
	@$(PYTHON) tests/demo/demo.py up

demo-down: ## stop and remove the demo's host
	@tests/tools/bootstrap tools
	@$(PYTHON) tests/demo/demo.py down

TESTS ?= tests/unit/plugins/modules

unit: ## run the unit tests of the modules, or those of TESTS=
	@tests/tools/bootstrap tools
	@$(PYTHON) tests/tools/mirror.py >/dev/null
	@cd .build/collections/ansible_collections/vgpu/kvm && \
	  PYTHONPATH="$(CURDIR)/.build/collections" "$(CURDIR)/$(PYTHON)" -m pytest -q -p no:cacheprovider $(TESTS)

test: ## run every test; SESSIONS="lint docs" runs only those
	@tests/tools/bootstrap test
	@$(PYTHON) tests/tools/run_tests.py $(SESSIONS)

test-faults: ## make every fault of the fault matrix on a virtual host, and print what came of it
	@tests/tools/bootstrap test
	@$(PYTHON) tests/tools/run_tests.py faults

test-crash: ## kill modules at their writes and cut the power, hundreds of times (hours without KVM)
	@tests/tools/bootstrap test
	@$(PYTHON) tests/tools/run_tests.py crash

bench: ## measure how long things take, against the floor and against others; BENCH="--full" measures more
	@tests/tools/bootstrap test
	@BENCH="$(BENCH)" $(PYTHON) tests/tools/run_tests.py bench

lint: ## run the linters alone
	@tests/tools/bootstrap test
	@$(PYTHON) tests/tools/run_tests.py lint docs

clean: ## stop this clone's twins and remove what was built here (caches stay)
	@for state in .build/twin/*/; do \
	  if [ -d "$$state" ]; then tests/twin/twin down "$$(basename "$$state")"; fi; \
	done
	rm -rf .build
