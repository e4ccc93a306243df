# `make book` sets up, runs every chapter and renders the page; `make test` sets up and tests everything.
# Needs Python 3.11 or newer, make and git. PYTHON=python3.12 chooses another Python; VENV=folder another environment.
PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 1
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PAGES  := _build/html
export OMP_NUM_THREADS = 1
export PYTHONHASHSEED = 0

NBVAL := $(BIN)/python -m pytest -q -n 2 --dist loadscope -p no:cacheprovider --nbval --nbval-current-env \
         --nbval-sanitize-with tests/nbval_sanitize.cfg book

LATER := --ignore tests/test_browser.py --ignore tests/test_site.py --ignore tests/test_figures.py --ignore tests/test_pdf.py  # these need the built pages

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env book pages serve chapters test test-fast test-unit test-notebooks test-portable test-browser test-figures test-pdf pdf lint clean

help:            ## this list
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 24

env: $(READY)    ## the Python environment in .venv, with what was tested together

$(READY): constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all]"
	@touch $@

book: pages      ## run every chapter (unchanged ones are skipped) and render the page
	@echo "The book is here: $(PAGES)/index.html   (make serve shows it)"

pages: $(READY) _build/.fresh
	$(BIN)/python book/_tools/execute.py --out _build/book --jobs $(JOBS) $(CHAPTERS)
	@$(BIN)/jupyter-book build _build/book --config _config.yml --path-output . -W -n --keep-going --quiet \
	  || { rm -rf _build/.doctrees; echo "the book has warnings; see above" >&2; exit 1; }

# Sphinx does not notice a changed script or style, so it starts afresh when one of these changed.
_build/.fresh: _config.yml book/_toc.yml book/references.bib $(shell find book/_extra book/_tools -type f -not -name '*.pyc')
	@rm -rf _build/.doctrees $(PAGES)
	@mkdir -p _build && touch $@

pdf: pages       ## print the whole book to _build/l2e-book.pdf
	$(BIN)/python book/_tools/pdf.py --pages $(PAGES) --out _build/l2e-book.pdf

serve: book      ## show the page on 127.0.0.1:8000 (PORT=8123 chooses another port)
	@echo "http://127.0.0.1:$(or $(PORT),8000)/   (Ctrl-C ends it)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(PAGES) $(or $(PORT),8000)

chapters: $(READY)  ## refresh the committed notebooks and recorded results (NAMES="01_monosemantic_neuron" for some)
	L2E_RESULTS="$(CURDIR)/data/results" $(BIN)/python book/_tools/execute.py --jobs $(JOBS) $(NAMES)
	$(BIN)/python book/_tools/readme_picture.py

# test-notebooks has just run every chapter and found its output to be the committed one: the page shows that.
test: CHAPTERS = --committed
test: lint test-unit test-notebooks book test-figures test-browser test-pdf  ## everything: style, units, every chapter's outputs, the page in a browser
	@echo "all tests passed"

test-fast: lint  ## style, and units without those marked slow
	$(BIN)/python -m pytest -q -p no:nbval -n 2 --dist loadscope -m "not slow" $(LATER) tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test-unit: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist loadscope $(LATER) tests

test-notebooks: $(READY)  ## run the committed notebooks and compare what they print
	$(NBVAL)

test-portable: $(READY)   ## the same with another instruction set: outputs must not hang on this machine's CPU
	ATEN_CPU_CAPABILITY=avx2 $(NBVAL)
	ATEN_CPU_CAPABILITY=default $(NBVAL)

test-figures: pages       ## compare the numbers behind the figures with those that ship
	$(BIN)/python -m pytest -q tests/test_figures.py

test-browser: pages       ## weigh the built pages, follow their links, move every control in a real browser, with no network
	$(BIN)/python -m pytest -q -n 2 tests/test_site.py tests/test_browser.py

test-pdf: pdf             ## look at the printed book: whole, in order, nothing cut off
	$(BIN)/python -m pytest -q tests/test_pdf.py

clean:           ## remove what was made, but not the environment
	rm -rf _build .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
