# `make demo` and `make test` are all a fresh machine with Python needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test test-long lint bench bench-layers docs docs-short clean

help:
	@echo "make demo       create .venv, install, run the demonstration (under a minute)"
	@echo "make test       run the tests (under 10 minutes on two cores)"
	@echo "make test-long  run many more random configurations (10,000 configurations)"
	@echo "make lint       format, lint, types, order of imports"
	@echo "make docs       build the documentation, running the lessons in full (docs/_build/html)"
	@echo "make docs-short the same with the lessons' short form (a minute or two)"
	@echo "make bench      speed against the peers, the planner's regret (writes docs/benchmarks.md)"
	@echo "make bench-layers  fused layers against PyTorch, ONNX Runtime, OpenVINO, LiteRT and Keras"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[demo]"
	@touch $@

$(VENV)/.test-ready: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt --group test
	@touch $@

$(VENV)/.lint-ready: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt --group lint
	@touch $@

$(VENV)/.bench-ready: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt --group bench
	@touch $@

$(VENV)/.docs-ready: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt --group docs
	@touch $@

demo: $(READY)
	$(BIN)/separable demo --output demo-output

test: $(VENV)/.test-ready
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not long"

test-long: $(VENV)/.test-ready
	$(BIN)/python -m pytest -q -m long --timeout 3600 --hypothesis-profile long

lint: $(VENV)/.lint-ready
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench-ready
	$(BIN)/python benchmarks/page.py

docs: $(VENV)/.docs-ready
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

docs-short: $(VENV)/.docs-ready
	LESSONS=short $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

bench-layers: $(VENV)/.bench-ready
	$(BIN)/python benchmarks/fused.py

clean:
	rm -rf docs/_build docs/api docs/lessons_built $(VENV) demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis
