# make demo         install what captioning needs, caption the example photographs, write demo/report.html
# make check        install what development needs, check the code, run the quick tests
# make test         the same, then the tests that take long
# make page         put the page together that captions in the browser, in build/browser
# make screenshots  take the docs' pictures of the page of `captionlens serve` anew
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
APT := DEBIAN_FRONTEND=noninteractive apt-get
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder
TOOLS := chromium libimage-exiftool-perl
INSTALL_TOOLS := { $(APT) install -y -qq $(TOOLS) || { $(APT) update -qq && $(APT) install -y -qq $(TOOLS); }; }

.PHONY: demo check lint quick test tools page screenshots format constraints clean
.DELETE_ON_ERROR:

demo: $(CAPTIONING)
	$(BIN)/captionlens caption examples/photographs --explain demo --report demo/report.html
	@echo "Open demo/report.html in a browser to see where each word looked."

# What fails fastest goes first; mypy takes one core only, so that the quick tests run beside it.
check:
	$(MAKE) -j2 lint quick

lint: $(DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

quick: $(DEVELOPMENT)
	$(PYTEST) -m 'not slow'

# What is installed is waited for, mostly; so all of it at once, before the cores have work.
test:
	$(MAKE) -j2 $(DEVELOPMENT) tools
	$(MAKE) -j2 lint quick
	$(PYTEST) -m slow --durations=25

# Tests in a browser and of metadata take Debian's chromium and exiftool: those there, or installed where allowed.
tools:
	@{ command -v chromium && command -v exiftool; } >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && $(INSTALL_TOOLS); } >/dev/null 2>&1 \
		|| echo "no chromium or no exiftool: tests with them will be skipped"

page: $(CAPTIONING)
	$(BIN)/python browser/build.py build/browser
	@echo "See it with: $(BIN)/python -m http.server --bind 127.0.0.1 --directory build/browser"

screenshots: $(DEVELOPMENT) tools
	CAPTIONLENS_SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/server/test_page.py

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

# The stamps are younger than the files that decide what is installed, so nothing is installed twice. Of torch's modules
# most are never imported: compiling them all beforehand would take a minute.
$(CAPTIONING): $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e .
	touch $@

$(DEVELOPMENT): $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(PIP) install --quiet --no-compile -c constraints.txt -e '.[dev]'
	touch $@ $(CAPTIONING)

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)
