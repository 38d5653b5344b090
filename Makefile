# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: The vgpu.kvm authors
# The targets have no prerequisites: each target first installs missing packages and creates .build/venv.

PYTHON := .build/venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo demo-down unit test test-faults test-crash bench lint bootstrap clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' Makefile

demo: ## build a virtual GPU host, configure its vGPUs, and print commands to inspect the host
	@tests/tools/bootstrap demo
	@$(PYTHON) tests/demo/demo.py up

demo-down: ## stop and remove the demo host
	@tests/tools/bootstrap tools
	@$(PYTHON) tests/demo/demo.py down

TESTS ?= tests/unit/plugins/modules

unit: ## run the unit tests of the modules, or the tests in TESTS=
	@tests/tools/bootstrap tools
	@$(PYTHON) tests/tools/mirror.py >/dev/null
	@cd .build/collections/ansible_collections/vgpu/kvm && \
	  PYTHONPATH="$(CURDIR)/.build/collections" "$(CURDIR)/$(PYTHON)" -m pytest -q -p no:cacheprovider $(TESTS)

test: ## run the tests of continuous integration; SESSIONS="lint docs" runs only these sessions
	@tests/tools/bootstrap test
	@$(PYTHON) tests/tools/run_tests.py $(SESSIONS)

test-faults: ## inject every fault of the fault matrix on a virtual host, and print the results
	@tests/tools/bootstrap test
	@$(PYTHON) tests/tools/run_tests.py faults

test-crash: ## kill modules before their writes and cut the power, hundreds of times (takes hours without KVM)
	@tests/tools/bootstrap test
	@$(PYTHON) tests/tools/run_tests.py crash

bench: ## measure how long each operation takes, compared with the floor and with other tools; BENCH="--full" measures more
	@tests/tools/bootstrap test
	@BENCH="$(BENCH)" $(PYTHON) tests/tools/run_tests.py bench

lint: ## run only the linters
	@tests/tools/bootstrap test
	@$(PYTHON) tests/tools/run_tests.py lint docs

clean: ## stop this clone's twins and remove all build results (caches are kept)
	@for state in .build/twin/*/; do \
	  if [ -d "$$state" ]; then tests/twin/twin down "$$(basename "$$state")"; fi; \
	done
	rm -rf .build
