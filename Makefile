# Two commands for a fresh machine: make quickstart, make test. Both make .venv first.

PYTHON ?= python3
RUN := .venv/bin/python
# Two, since some tests start several processes of their own, or full-size networks.
PYTEST := $(RUN) -m pytest --numprocesses=2 --dist=worksteal

.PHONY: quickstart test test-all lint
.DELETE_ON_ERROR:

quickstart: .venv/installed
	$(RUN) -m alexnet_jax.main --config=configs/quickstart.py

# Under five minutes on two cores.
test: .venv/installed lint
	$(PYTEST) -m "not slow"

# The slow rest, under half an hour: full-size networks, other people's implementations, real
# processes, kills.
test-all: .venv/installed .venv/peers
	$(PYTEST) -m slow

lint: .venv/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

.venv/peers: tests/requirements-peers.txt .venv/installed
	$(RUN) -m pip install --quiet -r $< && touch $@ || \
	  echo "The peers of $< can't be installed: their tests are skipped."

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 to 3.13 is needed: name one with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@
