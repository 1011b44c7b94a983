# Targets: make demo (see it work), make test (all checks), make lint, make faults (injected faults), make search (random
# examples), make pages, make docs, make qgis, make clean. No network is used after the install.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Processes that share the injected faults.
WORKERS ?= 2
# How often `make search` draws the examples of the property tests.
ROUNDS ?= 10
# The tests run in three processes, one after the other: the networks of one part are gone when the next begins.
FIRST  := tests/engine tests/export tests/nn
SECOND := tests/annotate tests/batch tests/commands tests/explain tests/geo tests/plugin tests/serve tests/visualize
REST   := $(filter-out $(FIRST) $(SECOND) tests/faults tests/__pycache__, $(patsubst %/,%,$(wildcard tests/*/)) $(wildcard tests/test_*.py))

# Ultralytics must neither fetch nor install anything unasked, nor touch the user's own settings.
export YOLO_OFFLINE = 1
export YOLO_AUTOINSTALL = false
export YOLO_CONFIG_DIR = $(abspath $(VENV))/config
export MPLBACKEND = Agg
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test lint faults search pages docs qgis clean
.DEFAULT_GOAL := test

# The package alone: what `make demo` needs. On Linux PyTorch's own index has builds for the CPU, a tenth of the size:
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo
$(VENV)/.package: pyproject.toml packaging/optisar_yolo_boot.pth packaging/optisar_yolo_boot.start
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	mkdir -p $(YOLO_CONFIG_DIR)
	touch $@

$(STAMP): $(VENV)/.package
	$(BIN)/python -m pip install --quiet --editable '.[dev,export,openvino,build,apps,serve,geo,batch,hub,track]'
	touch $@

demo: $(VENV)/.package
	$(BIN)/optisar demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest $(FIRST)
	$(BIN)/python -m pytest $(SECOND)
	$(BIN)/python -m pytest $(REST)

# Writes the table of docs/reliability.md.
faults: $(STAMP)
	OPTISAR_FAULTS_TABLE=docs/reliability.md $(BIN)/python -m pytest tests/faults -m faults --timeout 600 \
		-n $(WORKERS) --dist loadfile --no-loadscope-reorder

# The property tests with other examples than in `make test`, drawn at random; a failure prints how to repeat it.
search: $(STAMP)
	for round in $$(seq $(ROUNDS)); do \
		$(BIN)/python -m pytest tests -m hypothesis --hypothesis-profile search || exit 1; done

# The code of every page of the documentation, also what trains, exports, serves or starts Ray for minutes.
pages: $(STAMP)
	OPTISAR_EVERY_PAGE=1 $(BIN)/python -m pytest tests/test_pages.py

# The documentation as a site; a warning is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "Open build/docs/index.html"

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

# The QGIS plugin as an archive that QGIS installs: dist/optisar_grounding-….zip.
qgis:
	$(PYTHON) integrations/qgis/make_zip.py dist

clean:
	rm -rf build dist demo runs .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
