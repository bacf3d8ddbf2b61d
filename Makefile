# Every target works on a fresh clone on a machine that has only Python 3.11 or newer, and is quick the second time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
TRIALS ?= 12
# Many tests wait for processes: half as many again as there are cores, eight at most, keep the cores busy.
PARALLEL ?= -n $(shell n=$$(($(WORKERS) + $(WORKERS) / 2)); echo $$((n < 2 ? 2 : n > 8 ? 8 : n))) --dist worksteal

INSTALLED := $(VENV)/.installed
DEVELOPED := $(VENV)/.installed-dev
TORCH := $(shell grep -i '^torch==' constraints.txt)
# On all cores, unlike pip, and even where PYTHONDONTWRITEBYTECODE is set: without bytecode each worker would compile torch
# and MONAI anew, ten seconds of CPU. What is there already is left alone; what is written for another Python does not count.
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib tuner api || true

# nnU-Net, segmentation-models-pytorch and this package together: 9 GB, and nothing that `make test` needs
HOME_ENV := build/home-env
HOME_INSTALLED := $(HOME_ENV)/.installed
HOME_PIP := $(HOME_ENV)/bin/python -m pip --disable-pip-version-check
# mmsegmentation with the torch of that environment; mmcv without compiled operators, of which no wheel is for this torch
MMSEG_ENV := build/mmseg-env
MMSEG_INSTALLED := $(MMSEG_ENV)/.installed

.PHONY: help install demo test test-slow test-home bench dist docs lint format clean

help:
	@echo "make install    .venv/bin/tuner, with the PostgreSQL driver"
	@echo "make demo       a search on a procedural abdomen and its verdict, on the CPU, in minutes"
	@echo "make test       the tests       make test-slow  those that take long as well"
	@echo "make test-home  exported trials in nnU-Net, MONAI, SMP, mmsegmentation and alone: environments of 9 GB in build/"
	@echo "make bench      the benchmarks  make lint       format, lint, types, import layers"
	@echo "make docs       the documentation site in build/site"
	@echo "make dist       sdist and wheel in dist/; the wheel, in an empty environment, runs the first trials of the demo"

install: $(INSTALLED)

# torch comes first and by itself: it is the large one, and the index that has its CPU or CUDA build is the machine's choice
$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --no-compile -c constraints.txt "$(TORCH)"
	$(PIP) install --quiet --no-compile -c constraints.txt -e .
	@$(COMPILE)
	@touch $@
	@echo "Installed: $(BIN)/tuner"

$(DEVELOPED): $(INSTALLED)
	$(PIP) install --quiet --no-compile -c constraints.txt -e '.[dev]'
	@$(COMPILE)
	@touch $@

demo: $(INSTALLED)
	@mkdir -p demo
	@echo "The study will be in demo/tuner.db, the files of its trials in demo/artifacts/phantom."
	@echo "For other commands to find it:  export TUNER_STORAGE=sqlite:///$(CURDIR)/demo/tuner.db TUNER_CACHE=$(CURDIR)/demo/cache"
	@echo "Then, for example:              $(BIN)/tuner status phantom"
	@echo
	$(BIN)/tuner launch --dataset phantom --storage sqlite:///demo/tuner.db --cache demo/cache --devices cpu \
	  --workers $(WORKERS) --trials $(TRIALS)

test: $(DEVELOPED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(PARALLEL) -m "not slow and not gpu"

test-slow: $(DEVELOPED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(PARALLEL)

test-home: $(HOME_INSTALLED) $(MMSEG_INSTALLED)
	OMP_NUM_THREADS=1 TUNER_MMSEG_PYTHON=$(MMSEG_ENV)/bin/python $(HOME_ENV)/bin/python -m pytest -q --timeout=3600 \
	  tests/home tests/models/test_smp.py tests/export/test_monai_bundle.py

$(HOME_INSTALLED): pyproject.toml
	@test -x $(HOME_ENV)/bin/python || $(PYTHON) -m venv $(HOME_ENV)
	$(HOME_PIP) install --quiet torch==2.14.1 torchvision==0.29.1
	$(HOME_PIP) install --quiet 'nnunetv2==2.8.*' -e '.[smp,bundle,testing]' pytest-timeout httpx
	@touch $@

$(MMSEG_INSTALLED): $(HOME_INSTALLED)
	@test -x $(MMSEG_ENV)/bin/python || $(PYTHON) -m venv $(MMSEG_ENV)
	@echo $(CURDIR)/$(HOME_ENV)/lib/python*/site-packages > $$(echo $(MMSEG_ENV)/lib/python*/site-packages)/home.pth
	$(MMSEG_ENV)/bin/python -m pip --disable-pip-version-check install --quiet \
	  'mmsegmentation==1.2.*' 'mmengine==0.10.*' 'mmcv-lite==2.1.*' ftfy regex
	@touch $@

bench: $(DEVELOPED)
	@for script in $$(grep -L 'required=True\|add_argument("[a-z]' benchmarks/[a-z]*.py); do \
	  name=$${script%.py}; echo "== $$script"; $(BIN)/python -m $$(echo $$name | tr / .) || exit 1; \
	done

dist: $(DEVELOPED)
	rm -rf dist build/wheel-env build/wheel-demo
	$(BIN)/python -m hatchling build -t sdist -d dist
	$(PIP) wheel --quiet --no-deps -w dist dist/*.tar.gz # from the sdist, which is thereby known to be whole
	$(BIN)/python -m venv build/wheel-env
	build/wheel-env/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt "$(TORCH)"
	build/wheel-env/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt dist/*.whl
	mkdir build/wheel-demo
	cd build/wheel-demo && timeout 900 ../wheel-env/bin/tuner launch --dataset phantom --storage sqlite:///tuner.db --cache cache \
	  --devices cpu --workers 1 --trials 3 --epochs 2
	@ls -l dist

docs: $(DEVELOPED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Built: build/site/index.html"

lint: $(DEVELOPED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEVELOPED)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
