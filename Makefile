# make demo: install into .venv and run the main comparison.  make test: the same for the tests.
# make test-slow: the rest of them.  make check: lint, types and rooms.  make format: format all.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# the CPU build of JAX; on a GPU machine: make demo EXTRAS=cuda
EXTRAS ?=
# versions to hold packages to, such as .ci/jax-0.10.txt
CONSTRAINTS ?=
comma = ,
PIP = $(BIN)/pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

.PHONY: demo test test-slow check format clean

demo: $(VENV)/.installed
	$(BIN)/jaxgen compare --config=experiments/trilemma.py$(if $(SMOKE),:smoke) --workdir=runs/trilemma$(if $(SMOKE),_smoke)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 $(TESTS)

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 -m slow $(TESTS)

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_rooms.py

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix --silent . || true
	$(BIN)/ruff format .

$(VENV)/.installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".$(if $(EXTRAS),[$(EXTRAS)])"
	touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable ".[test$(if $(EXTRAS),$(comma)$(EXTRAS))]"
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) .cache build *.egg-info
