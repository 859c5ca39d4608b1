# Two commands for a fresh machine: make quickstart, make test. Both make .venv first.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# Two, since some tests start several processes of their own, or full-size networks.
PYTEST := $(RUN) -m pytest --numprocesses=2 --dist=worksteal

.PHONY: quickstart test test-core test-all lint
.DELETE_ON_ERROR:

quickstart: $(VENV)/installed
	$(RUN) -m alexnet_jax.main --config=configs/quickstart.py

# Under five minutes on two cores.
test: $(VENV)/installed lint
	$(PYTEST) -m "not slow"

# Of another Python: make VENV=.venv-newer PYTHON=python3.13 test-core
test-core: $(VENV)/installed
	$(PYTEST) -m "not slow" tests/model tests/training tests/data tests/tools \
	  tests/runtime/test_xla_flags.py

# The slow rest, under half an hour: full-size networks, other people's implementations, real
# processes, kills.
test-all: $(VENV)/installed $(VENV)/peers
	$(PYTEST) -m slow

lint: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

$(VENV)/peers: tests/requirements-peers.txt $(VENV)/installed
	$(RUN) -m pip install --quiet -r $< && touch $@ || \
	  echo "The peers of $< can't be installed: their tests are skipped."

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed, since TensorFlow has no wheel for others yet: name" \
	    "one with make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.platform == "win32")' || \
	  { echo "Windows can't run this, since TensorFlow has no wheel there: use WSL."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -r requirements.txt
	touch $@
