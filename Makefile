# make demo    a made-up directory, served over SCIM     PEOPLE=50000 PORT=8081 make demo
# make test    ruff, mypy and all tests, the built wheel included
# make lint    ruff and mypy alone
# make kills   kills publishers while a server answers    KILLS=3000 make kills
# make consistency   imports against refreshes, for long   EXAMPLES=20000 make consistency
# make filters   filters of the index against a naive evaluator   FILTERS=500000 make filters
# make golden   writes the golden bodies anew, for review by eye
# make large   imports of 800,000 memberships, groups of 200,000, a user in 5,000 groups
# make bench   everything that is asked of a million people, against the bare parts   PEOPLE=200000 make bench
# make bench-quick   the same in a minute, with 20,000 people and short rounds
# make bench-sizes   1, 2 and 5 million people side by side; an hour or two, 50 GB   SIZES="1000000 2000000" make bench-sizes
# make clean   removes everything that these made
#
# Each makes its own .venv first. PYTHON=/path/to/python3.12 make test chooses another Python.

PYTHON ?= python3
PORT ?= 8080
KILLS ?= 3000
EXAMPLES ?= 20000
FILTERS ?= 500000
SIZES ?= 1000000 2000000 5000000

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --quiet --quiet --disable-pip-version-check --no-input
# The requirements as pyproject.toml lists them; the project itself runs from the tree.
PROJECT := import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]
RUNTIME := $(PROJECT); print(*project["dependencies"], sep="\n")
DEV := $(PROJECT); print(*project["optional-dependencies"]["dev"], sep="\n")
# An environment that works is kept; one that is half made, or whose Python is gone, is made anew.
USABLE := $(shell $(PY) -c 'import sys, pip; print(sys.version_info >= (3, 11))' 2>/dev/null)

.PHONY: help demo test lint kills consistency filters golden large bench bench-quick bench-sizes clean constraints environment

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(VENV)/.runtime
	@exec $(PY) -m snapshot demo --people '$(or $(PEOPLE),1000)' --port '$(PORT)' --folder .demo

test: lint
	$(PY) -m pytest --numprocesses 2 --dist worksteal

lint: $(VENV)/.dev
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

kills: $(VENV)/.dev
	@KILLS='$(KILLS)' $(PY) -m pytest --quiet tests/test_kills.py

consistency: $(VENV)/.dev
	@SCIM_CONSISTENCY_EXAMPLES='$(EXAMPLES)' $(PY) -m pytest tests/test_import_consistency.py

golden: $(VENV)/.dev
	@PYTHONPATH=. $(PY) tests/golden_bodies.py

filters: $(VENV)/.dev
	@SCIM_FILTERS='$(FILTERS)' $(PY) -m pytest tests/test_filter_differential.py

large: $(VENV)/.dev
	@SCIM_LARGE=1 $(PY) -m pytest tests/test_large_directory.py

bench: $(VENV)/.dev
	@PEOPLE='$(or $(PEOPLE),1000000)' $(PY) tests/bench/run.py

bench-quick: $(VENV)/.dev
	@PEOPLE='$(or $(PEOPLE),20000)' QUICK=1 $(PY) tests/bench/run.py

bench-sizes: $(VENV)/.dev
	@for size in $(SIZES); do PEOPLE=$$size ROUNDS=1 KEEP=0 $(PY) tests/bench/run.py || exit; done
	@$(PY) tests/bench/sizes.py $(SIZES)

clean:
	rm -rf $(VENV) .demo .bench dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

environment:
	@command -v '$(PYTHON)' >/dev/null || \
	  { echo "There is no $(PYTHON). Install Python 3.11 or newer (Debian: apt install python3-venv)." >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is $$('$(PYTHON)' -V 2>&1), 3.11 or newer is needed: PYTHON=/path/to/it make ..." >&2; exit 1; }
	@'$(PYTHON)' -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments (Debian: apt install python3-venv)." >&2; exit 1; }
	@echo "Making $(VENV) with $$('$(PYTHON)' -V)."
	@'$(PYTHON)' -m venv --clear $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt $(if $(filter True,$(USABLE)),,environment)
	@echo "Installing what scheduler and server need."
	@$(PY) -c '$(RUNTIME)' > $@.txt
	@$(PIP) install --constraint constraints.txt --requirement $@.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "Installing what the tests need."
	@$(PY) -c '$(DEV)' > $@.txt
	@$(PIP) install --constraint constraints.txt --requirement $@.txt
	@touch $@

# The newest version of everything, into constraints.txt. Run it, run make test, commit.
constraints: environment
	$(PY) -c '$(RUNTIME)' > $(VENV)/all.txt
	$(PY) -c '$(DEV)' >> $(VENV)/all.txt
	$(PIP) install --requirement $(VENV)/all.txt
	sed -n '/^#/p' constraints.txt > $(VENV)/constraints.txt
	$(PY) -m pip freeze >> $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints.txt
