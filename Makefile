# make demo   opens the dashboard on the bundled recording and offers a first live run
# make test   lint and the whole test suite
# make lint   ruff, and mypy over both packages
# make faults kills, damage, full disks and hostile input, replayed: tried and held (about ten minutes)
# make clean  removes the virtual environment and everything built

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test lint faults clean
.DELETE_ON_ERROR:

demo: $(READY)
	@$(BIN)/plastiscope demo

test: lint
	@$(BIN)/python -m pytest

lint: $(READY)
	@$(BIN)/ruff check
	@$(BIN)/mypy

faults: $(READY)
	@$(BIN)/python -m bench.faults

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made once and again only when the two files that describe it change.
$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Plastiscope needs Python 3.11 or newer, and $(PYTHON) is %d.%d; name another one with make PYTHON=python3.12 …" % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; install its venv module (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@echo "Installing what requirements.txt lists into $(VENV): about 6 GB with torch, once."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
