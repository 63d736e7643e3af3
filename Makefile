# `make demo` and `make test` need Python 3.11 and nothing else; both make .venv first.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test tiny bench clean figures

.venv/ready: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch .venv/ready

.venv: .venv/ready

demo: .venv/ready  # FD on the toy, then the base and the trained prover side by side
	rm -rf out/demo
	$(BIN)/python train.py --out out/demo
	$(BIN)/python eval.py --model tiny out/demo --samples 8 --out out/demo

test: .venv/ready
	$(BIN)/python -m pytest -q tests

figures: .venv/ready  # every comparison, resumable: at most 5 hours on 2 cores, with QUICK=1 at most 20 minutes
	$(BIN)/python -m experiments.figures $(if $(filter-out 0,$(QUICK)),--quick)

tiny: .venv/ready  # the theorems and the tiny prover, from nothing (half an hour on a CPU core)
	$(BIN)/python -m toy.theorems
	$(BIN)/python -m toy.warm_up --out out/tiny
	$(BIN)/python -m toy.warm_up --ship out/tiny
