# Two commands for everybody: `make demo`, `make test`. Each does all of its own set-up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
# Twice the cores of a small machine: half of what the tests do is to wait for servers and processes.
WORKERS ?= 4

.PHONY: demo test soak check lint docs fuzz bench clean setup servers

demo: $(STAMP)  ## the main job, played on an embedded mail server
	@$(BIN)/agentmail demo

test: $(STAMP) servers lint  ## every test, against real servers
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

soak: $(STAMP) servers  ## the long forms of the tests that kill, cut and fuzz
	AGENTMAIL_TEST_KILLS=300 AGENTMAIL_TEST_CUTS=1500 $(BIN)/python -m pytest -m "soak or slow"
	AGENTMAIL_TEST_PROPERTIES=explore $(BIN)/python -m pytest tests/unit -m "not slow and not soak" -q

check: $(STAMP) lint  ## the fast part, for every commit
	$(BIN)/python -m pytest tests/unit -m "not slow and not soak" -q

lint: $(STAMP)
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

servers:  ## Debian's Dovecot, Postfix and PostgreSQL, installed when missing and allowed
	@sh scripts/install-servers.sh

setup: $(STAMP)

$(STAMP): pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh "$(PYTHON)" "$(VENV)"
	@touch $@

docs: $(STAMP)  ## what is written by the code: pages, and the schema of a new store
	$(BIN)/python scripts/write-command-reference.py
	$(BIN)/python scripts/write-schema.py

fuzz: $(STAMP)
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install --quiet "atheris>=3,<4"
	$(BIN)/python -m tests.fuzz.run --seconds 480
	$(BIN)/python -m tests.fuzz.run --seconds 120 --target compose

bench: $(STAMP)
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
