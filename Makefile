# Everything a developer does, in one place. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo ui test thorough pythons lint format docs site screenshots package bench clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Install Trackgen and what its developers need into .venv
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(INSTALLED) ## Make a sample history, and tracks of it
	$(BIN)/trackgen demo

ui: $(INSTALLED) ## Start the Dagster UI on http://127.0.0.1:3000
	$(BIN)/trackgen ui

test: $(INSTALLED) ## Run all tests
	$(BIN)/pytest -n 4 --dist loadgroup --no-loadscope-reorder

thorough: $(INSTALLED) ## Run all tests, with five times as many examples of the laws
	TEST_EFFORT=5 $(BIN)/pytest -n 4 --dist loadgroup --no-loadscope-reorder

pythons: $(INSTALLED) ## Try the wheel on the other Pythons that are installed here
	$(BIN)/python tests/pythons.py

lint: $(INSTALLED) ## Check style, types and that the generated documents are up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(INSTALLED) ## Format the code and sort the imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## Write the documents that are generated from the code
	$(BIN)/python docs/generate.py

site: $(INSTALLED) ## Make a site of the documents in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

screenshots: $(INSTALLED) ## Take the pictures of the documents from a running UI, a map and a terminal (needs Chromium)
	$(BIN)/python docs/screenshots.py
	$(BIN)/python docs/result_screenshots.py
	$(BIN)/python docs/rule_pictures.py

package: ## Build the wheel in dist (needs nothing but Python)
	test -x build/venv/bin/pip || $(PYTHON) -m venv build/venv
	build/venv/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

bench: $(INSTALLED) ## Run the benchmarks
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/bench_segmentation.py
	$(BIN)/python benchmarks/bench_generate.py
	$(BIN)/python benchmarks/bench_workers.py
	$(BIN)/python benchmarks/bench_sessions.py
	PYTHONPATH=. $(BIN)/python benchmarks/bench_distances.py
	PYTHONPATH=. $(BIN)/python benchmarks/bench_formats.py
	PYTHONPATH=. $(BIN)/python benchmarks/bench_postgresql.py
	PYTHONPATH=. $(BIN)/python benchmarks/bench_users.py
	PYTHONPATH=. $(BIN)/python benchmarks/bench_dawarich.py

clean: ## Remove everything that was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
