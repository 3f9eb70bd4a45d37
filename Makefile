# Every target sets up what it needs in .venv, from nothing. `make demo PHOTO=me.jpg` uses your own picture.

PHOTO ?= astronaut
EMOTION ?= happy=0.8
OUT ?= out/demo

BUILD_REQUIREMENTS := 'setuptools>=77' 'pybind11>=3.0' 'cmake>=3.26' ninja  # as in pyproject.toml
PIP := .venv/bin/python -m pip
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: demo test check cuda-gate speed-gate format build emulator emulator-only sanitize sanitize-calls clean

demo: build
	python -m emogs avatar "$(PHOTO)" --emotion $(EMOTION) --out $(OUT)

test: build emulator cuda-gate speed-gate
	python -m pytest $(PYTEST_ARGS)

check: build emulator cuda-gate speed-gate
	ruff check .
	ruff format --check .
	clang-format --dry-run --Werror $(shell git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
	mypy
	python -m pytest $(PYTEST_ARGS)

# Runs a gate. 77 means that it cannot tell: that passes, and the tests' summary repeats it (tests/conftest.py).
define gate
mkdir -p build/untold && rm -f build/untold/$@
$(1) || { code=$$?; [ $$code -eq 77 ] || exit $$code; touch build/untold/$@; }
endef

# Registers, spills, instructions and occupancy of every CUDA kernel against benchmarks/cuda_budget.json; needs no GPU.
# 77: there is no nvcc here, or not the one that the budget was made with.
cuda-gate: .venv/.installed
	$(call gate,python benchmarks/cuda_gate.py check)

# Machine code and executed instructions of every CPU kernel against benchmarks/speed_reference.json; needs no clock.
# 77: another compiler than the reference's, or kernels changed and there is no valgrind.
speed-gate: build
	$(call gate,python benchmarks/speed_check.py check)

format: .venv/.installed
	ruff check --fix .
	ruff format .
	clang-format -i $(shell git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')

# Compiles what changed. EMOGS_CUDA=off|on|auto and EMOGS_CUDA_ARCHS=90 pass through.
build: .venv/.installed
	python setup.py --quiet build_ext --inplace

# The CUDA kernels compiled for the CPU (tests/emulator/README.md), for the tests; on Linux.
emulator: .venv/.installed
	test "$$(uname)" != Linux || $(MAKE) --no-print-directory emulator-only

emulator-only:
	cmake -G Ninja -S . -B build/emulate -DEMOGS_CUDA=emulate -DCMAKE_MAKE_PROGRAM=$$(which ninja) \
	  -DPython_EXECUTABLE=$$(which python) -Dpybind11_DIR=$$(python -m pybind11 --cmakedir) --log-level=WARNING
	cmake --build build/emulate -- --quiet

# The emulated kernels under ThreadSanitizer, AddressSanitizer and UBSan, the CPU's under the latter: a verdict.
sanitize: build emulator
	python tests/emulator/sanitize.py

# Random calls of all operations, hostile arguments included, under AddressSanitizer and UBSan.
sanitize-calls: build
	python tests/emulator/sanitize.py calls $(CALLS)

.venv/.installed: pyproject.toml constraints.txt
	test -x .venv/bin/python || python3 -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt $(BUILD_REQUIREMENTS)
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist out emogs.egg-info emogs/_C.*.so
