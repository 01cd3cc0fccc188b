# The two commands of the README, and what contributors run. Needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# The packages of an environment as constraints.txt names them: one case, torch without "+cpu", no CUDA package (torch pins its own).
frozen = $(1)/bin/python -m pip freeze --exclude-editable | grep -viE '^(nvidia|cuda|triton)' | sed -E 's/\+[a-z0-9]+$$//; s/_/-/g' | \
	tr A-Z a-z | LC_ALL=C sort

# Runs a part and says how long it took.
timed = @start=$$(date +%s); $(2) && echo "$(1): $$(( $$(date +%s) - start )) s"

.PHONY: demo test lint box test-newest test-oldest lock
demo: $(VENV)/.installed
	$(BIN)/daybreak demo

test: $(VENV)/.installed-dev lint
	$(call timed,tests,$(BIN)/python -m pytest)

lint: $(VENV)/.installed-dev
	$(call timed,lint,$(BIN)/ruff check . && $(BIN)/ruff format --check .)
	$(call timed,types,$(BIN)/pyrefly check --summary=none)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "daybreak needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Both install the packages that the tests passed with.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml constraints.txt
	$(call timed,install,$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]")
	touch $@ $(VENV)/.installed

# The trained model that the package carries, made anew: fifty minutes.
box: $(VENV)/.installed
	$(BIN)/daybreak train scenes-box --out runs/box
	$(BIN)/python -m daybreak.box.pack runs/box $$(git rev-parse --short HEAD)

# Without the lock, in an environment made anew: what has come out since, and what it broke.
test-newest:
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --editable ".[dev]"
	-@echo "other than in the lock:"; $(call frozen,.venv-newest) | grep -vxFf constraints.txt
	.venv-newest/bin/python -m pytest

# The lower bounds of pyproject.toml, those of the extras too: its "name>=1.2" become "name==1.2".
test-oldest:
	rm -rf .venv-oldest
	$(PYTHON) -m venv .venv-oldest
	grep -oE '"[A-Za-z0-9_-]+(\[[a-z,]*\])?>=[0-9.]+' pyproject.toml | sed -E 's/"//; s/\[.*\]//; s/>=/==/' | \
		grep -v '^setuptools=' | sort -u > .venv-oldest/oldest.txt
	.venv-oldest/bin/python -m pip install --quiet --constraint .venv-oldest/oldest.txt \
		--editable ".[dev,data,quant,wandb,mlflow,ray]"
	.venv-oldest/bin/python -m pytest

# The lock: what the tests have just passed with.
lock: test-newest
	echo "# The packages that the tests passed with; \`make lock\` writes it anew. torch: the CPU build and the CUDA build alike." > constraints.txt
	$(call frozen,.venv-newest) >> constraints.txt
