# make demo: install into .venv and run the main comparison.  make test: the same for the tests.  make test-slow: the rest of them.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# the CPU build of JAX; on a GPU machine: make demo EXTRAS=cuda
EXTRAS ?=
comma = ,

.PHONY: demo test test-slow lint clean

demo: $(VENV)/.installed
	$(BIN)/jaxgen compare --config=experiments/trilemma.py$(if $(SMOKE),:smoke) --workdir=runs/trilemma$(if $(SMOKE),_smoke)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 $(TESTS)

test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 -m slow $(TESTS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .

$(VENV)/.installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".$(if $(EXTRAS),[$(EXTRAS)])"
	touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[test$(if $(EXTRAS),$(comma)$(EXTRAS))]"
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) .cache build *.egg-info
