#!/usr/bin/env bash
# The numbers of the README and toy/README.md that `python -m experiments.figures` does not make:
# all weights, single learning rates. About 20 minutes on 2 cores; finished runs are not run again.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
run() {
    local out="out/readme/$1"
    [ -f "$out/done" ] && return
    rm -rf "$out"
    $python train.py --out "$out" "${@:2}"
    touch "$out/done"
}

for seed in 0 1 2; do run "fd_$seed" --seed "$seed"; done
run all_weights --lora-rank 0 --lr 1e-4
run lr_3e-4 --lr 3e-4
run lr_3e-3 --lr 3e-3
run frozen_constant --ema-alpha 1 --feedback 'const:1. Write `intro`, not `assume`; write `constructor`, not `split`.'

$python eval.py --model tiny --feedback tutor --samples 4 --out out/readme/base_told
$python eval.py --model tiny out/readme/fd_0 out/readme/fd_1 out/readme/fd_2 out/readme/all_weights --samples 16 --out out/readme
