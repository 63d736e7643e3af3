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

tiny: .venv/ready  # the theorems, the warm-up data and the tiny prover, from nothing (about an hour on 2 cores)
	$(BIN)/python data/toy.py --warm-up out/warm
	$(BIN)/python train.py --algo sft --model out/warm/untrained --data out/warm/warm_up.jsonl --lora-rank 0 \
	    --steps 1800 --prompts-per-step 64 --lr 2e-3 --warmup 100 --micro-tokens 1600 --max-new-tokens 80 \
	    --eval-every 0 --save-every 300 --out out/tiny
	$(BIN)/python data/toy.py --ship out/tiny
