# A new machine with Python needs only `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test test-widths test-widths-long test-long test-random test-oldest test-docs has-oldest lint bench bench-others bench-layers docs docs-short clean

help:
	@echo "make demo         create .venv, install, run the demonstration (under a minute)"
	@echo "make test         run the tests (under 8 minutes on two cores)"
	@echo "make test-widths  run the tests of the compiled engine with vectors of 128, 256 and 512 bits (SSE4.2, AVX2, AVX-512)"
	@echo "make test-widths-long  the same with 10,000 random filters per test (an hour or more)"
	@echo "make test-long    run 10,000 random configurations, larger networks and files"
	@echo "make test-random  run the tests in random order"
	@echo "make test-oldest  run the tests that do not need PyTorch with Python 3.10 and the lowest versions"
	@echo "make test-docs    run the lessons and the examples, make pages with counts anew, run tests of SciPy and"
	@echo "                  scikit-image on our functions, and whole tables of texts, counts, scales and types"
	@echo "make lint         check format, style, docstrings, types and import layers"
	@echo "make docs         build the documentation and run its lessons (docs/_build/html)"
	@echo "make docs-short   the same with the short form of the lessons (one or two minutes)"
	@echo "make bench        compare the filters with other libraries, natively and limited to AVX2"
	@echo "                  (writes docs/benchmarks.md and the README's table)"
	@echo "make bench-others measure everything else in docs/benchmarks.md"
	@echo "make bench-layers compare fused layers with PyTorch, ONNX Runtime, OpenVINO, LiteRT and Keras,"
	@echo "                  natively and limited to AVX2 (writes the tables of docs/fused.md)"
	@echo "make clean        remove everything that these commands created"

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

# What other targets run is left out.
USUAL := not long and not docs and not peers and not apart and not widths

test: $(VENV)/.test-ready
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --durations 10 -m "$(USUAL)"

test-random: $(VENV)/.test-ready
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --durations 10 -m "$(USUAL)" --random-order

# Lessons and examples train networks: they are tested with the documentation, and so are whole tables of cases.
test-docs: $(VENV)/.test-ready
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --durations 10 -m "(docs or peers or apart) and not long"

# What this processor does not have is left out and named. WIDTHS=--after-test leaves out what `make test` has run.
test-widths: $(VENV)/.test-ready
	$(BIN)/python tools/run_widths.py $(WIDTHS)

test-widths-long: $(VENV)/.test-ready
	$(BIN)/python tools/run_widths.py --long

# The oldest Python that is here, in an environment of its own with the lowest versions of all dependencies.
OLDEST ?= $(shell for p in python3.10 $(HOME)/.pyenv/versions/3.10.*/bin/python; do $$p --version >/dev/null 2>&1 && command -v $$p && break; done)
OLD := .venv-oldest

$(OLD)/.ready: pyproject.toml tools/lowest_versions.py
	@test -n "$(OLDEST)" || { echo "Python 3.10 was not found; give its path: make test-oldest OLDEST=/path/to/python3.10" >&2; exit 2; }
	$(OLDEST) -m venv $(OLD)
	$(OLD)/bin/python -m pip install --quiet --upgrade "pip>=25.1" packaging tomli
	$(OLD)/bin/python tools/lowest_versions.py volumes wavelets demo > $(OLD)/lowest.txt
	$(OLD)/bin/python -m pip install --quiet --prefer-binary -c $(OLD)/lowest.txt -e ".[volumes,wavelets,demo]" --group test-arrays
	@touch $@

has-oldest:
	@test -n "$(OLDEST)"

test-oldest: $(OLD)/.ready
	$(OLD)/bin/python -m pytest -q -n 2 --dist worksteal --durations 10 -m "not long and not docs and not widths"

test-long: $(VENV)/.test-ready
	$(BIN)/python -m pytest -q -m long --timeout 3600 --hypothesis-profile long

lint: $(VENV)/.lint-ready
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench-ready
	$(BIN)/python benchmarks/filters.py
	$(BIN)/python benchmarks/page.py filters
	$(BIN)/python benchmarks/page.py resampling features

bench-others: $(VENV)/.bench-ready
	$(BIN)/python benchmarks/page.py --others

docs: $(VENV)/.docs-ready
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

docs-short: $(VENV)/.docs-ready
	LESSONS=short $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

bench-layers: $(VENV)/.bench-ready
	$(BIN)/python benchmarks/fused.py
	$(BIN)/python benchmarks/page.py fused

clean:
	rm -rf docs/_build docs/api docs/lessons_built docs/page_built $(VENV) $(OLD) demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .test-cache
