# make demo         install what captioning needs, caption the example photographs, write demo/report.html
# make test         install what development needs, run every check and test
# make format       put the code into shape
# make constraints  write the versions installed in .venv to constraints.txt
# make clean        remove everything that these made
#
# `make demo PYTHON=python3.12` chooses the Python that .venv is made with.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CAPTIONING := $(VENV)/captioning.stamp
DEVELOPMENT := $(VENV)/development.stamp

.PHONY: demo test format constraints clean
.DELETE_ON_ERROR:

demo: $(CAPTIONING)
	$(BIN)/captionlens caption examples/photographs --explain demo --report demo/report.html
	@echo "Open demo/report.html in a browser to see where each word looked."

test: $(DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

format: $(DEVELOPMENT)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Versions only: a local label (+cpu) and CUDA's packages depend on the machine, and torch asks for its own.
constraints: $(DEVELOPMENT)
	$(PIP) freeze --exclude-editable > $(VENV)/freeze.txt
	grep -vE '^(captionlens|nvidia-|cuda-|triton)' $(VENV)/freeze.txt | sed 's/+[a-z0-9.]*$$//' > $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints.txt
	touch $(CAPTIONING) $(DEVELOPMENT)

clean:
	rm -rf $(VENV) demo dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are younger than the files that decide what is installed, so nothing is installed twice.
$(CAPTIONING): $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e .
	touch $@

$(DEVELOPMENT): $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	touch $@ $(CAPTIONING)

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)
