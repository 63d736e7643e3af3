"""The comparisons of the paper at toy scale, from nothing: runs, results.csv, pictures and experiments/README.md.

    make figures QUICK=1                             # one seed, few steps, into out/figures_quick: at most 20 minutes on 2 cores
    make figures                                     # three seeds: at most 5 hours
    python experiments/figures.py --only ema tail    # these alone; what is committed of the others stays

An experiment is an entry of `experiments`: arms, each a few flags over train.py (or over beyond.py, which changes train.py). A run lies in out/figures/EXPERIMENT/ARM_sSEED and
its log in ARM_sSEED.txt beside it. What is finished (`done` holds its exact flags) is not run again, what was broken off is resumed,
what has other flags by now is run afresh, and two arms with the same flags share one run. Try it: change a line and run it again.
"""
import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

from eval import tactics_of  # noqa: E402
from pictures import Row, picture, points  # noqa: E402

LR = {"fd": "1e-3", "grpo": "1e-3", "sft": "1e-3"}  # what all experiments but the sweep use; `lr` says whether it is the best
GRPO = f"--algo grpo --prompts-per-step 32 --lr {LR['grpo']}"  # five attempts at each
CHANGES = "failures taught cut wrong_feedback".split()  # of beyond.py
# Seconds with one thread, two runs side by side, on the machine this was written on: only for the estimate.
COST = {"fd": 1.35, "grpo": 2.5, "sft": 0.45, "self": 2.8, "taught": 1.0, "tools": 6.0, "start": 5.5, "valid": 1.5, "256 attempts": 4.2}
# One honest sentence for each, written by hand after reading the numbers in results.csv.
SENTENCES: dict[str, str] = {
    "lr": "1e-3 is the best of five for GRPO and within noise of the best for FD (3e-3) and SFT (1e-2), so all three use it; the standard "
          "error of a value is 0.02. Above it GRPO breaks (1e-2), below 3e-4 nothing has moved yet.",
    "main": "In shape as in the paper: FD is at its plateau after 20 steps and 1,280 attempts, GRPO needs 30 steps and 4,800; GRPO ends 3 points "
            "higher at pass@1, 7 lower at pass@8 and with less entropy; GRPO over FD has GRPO's pass@1 with fewer attempts and keeps 2 to 4 points more "
            "of pass@8. Not as in the paper: nothing collapses in 60 steps, GRPO over FD is not above GRPO at pass@1, and imitating the reference "
            "proofs (sft) does as well as FD, because our tutor knows no more than these proofs. Reverse KL (ours) closes most of FD's gap to GRPO at pass@1.",
    "passk": "At about equal pass@1 FD keeps the higher pass@8 (0.92 against 0.85), as in the paper. The count of lemmas is too small here to tell "
             "the arms apart (the toy has ten).",
    "sources": "The tutor and the reference proof do equally well: the tutor's orders are made from that proof. Lean's own output teaches much less and "
               "length and entropy drift up; self-feedback, nonsense from this prover, is at the same level, which says something about our base (it "
               "takes unfamiliar feedback for a hint to write Lean 4) and nothing about self-feedback.",
    "proofs": "Imitating the reference proofs is at least as good as showing them to the teacher, and four times cheaper: on a toy whose proofs are "
              "unique in style there is nothing that only the student's own attempts can teach. Entropy is a little higher after FD.",
    "beyond": "One survivor: reverse KL, 4 points over FD with seeds that do not overlap, paid for in entropy; it is `--tail reverse`. `taught` gains 2 points with twice "
              "the samples; `cut` changes nothing; no distillation on successes is worse (0.585), unlike in a prototype whose base had not seen "
              "feedback about right attempts. Another theorem's feedback still teaches the words (0.42) and hurts the proofs: the peak is at step 20.",
    "tools": "Unlike in the paper tools hurt here (0.50 against 0.63): ten lemma names are soon learnt by heart, and every search adds a chance to mistype the pattern "
             "or to miscopy from what it prints. The student does learn when to search: half of the attempts do at step 15, a fifth to a third from step 20 on.",
    "ema": "As in the paper at the low end: the faster the teacher follows, the worse (alpha 0 ends 11 points lower, entropy up by half). Unlike in the "
           "paper a frozen teacher is as good as 0.9 here: 40 steps are too few for the student to outgrow the teacher it started from.",
    "constant": "An order that names two words is learnt: KL falls from 0.53 to 0.04 and the student, which never sees the order, goes from 0.01 to 0.53. One that names "
                "nothing has a KL of 0.002 from the start (the warm-up taught the base to ignore it) and changes nothing, so the paper's change of length is not seen here.",
    "styles": "No difference on this toy: the four end within each other's seeds (0.625 to 0.638). The warm-up taught the base all four wordings, and the "
              "rule-based tutor says the same in each; the paper's collapse with unstructured advice comes after 200 steps, these runs have 40.",
    "tail": "The predicted self-sharpening happens where the teacher's top K leaves mass out: at K = 1 (mass 0.976) drop ends 180 steps with entropy 0.085 and "
            "bucket with 0.111, in every seed, and the teacher, an average of such students, grows surer too (mass 0.980 against 0.974). Here sharper is better: drop_1 has "
            "0.671 pass@1 against 0.645, with pass@2 equal within the seeds, much as reverse KL. At K = 5 and more (mass 0.999) drop and bucket cannot be told apart.",
}

# --- what is run
def experiments(quick: bool) -> dict:
    """name -> (question, samples per theorem at the end, its split, {arm: flags over train.py}); @ARM is that arm's folder.

    Arms with @ start from another one of their experiment: their steps, samples and seconds go on from its."""
    n, m = (20, 60) if quick else (40, 60)  # steps of an ablation, and of `main`: GRPO starts slowly, few groups have a success
    end, main_samples = ((0, "valid") if quick else (2, "test")), 8  # 0: no evaluation of its own, the run's last one counts
    fd_of = lambda steps: f"--steps {steps} --eval-every {5 if steps == 20 else 20 if steps > m else 10} --lr {LR['fd']}"  # noqa: E731
    fd = fd_of(n)
    rates = ("3e-4", "1e-3", "3e-3") if quick else ("1e-4", "3e-4", "1e-3", "3e-3", "1e-2")
    kinds = {"fd": f"--steps {n} --eval-every 20", "grpo": f"--algo grpo --prompts-per-step 32 --steps {25 if quick else m} --eval-every 20",
             "sft": f"--algo sft --steps {n if quick else m} --eval-every 20"}
    sweep = {f"{algo}_{lr}": f"{flags} --lr {lr}" for algo, flags in kinds.items() for lr in rates}
    main = {"base": "", "sft": f"--algo sft --steps {m} --lr {LR['sft']}", "fd": fd_of(m), "fd_reverse": f"{fd_of(m)} --tail reverse",
            "grpo": f"{GRPO} --steps {m}"}
    if quick:
        main |= {"grpo_over_fd": f"{GRPO} --steps 40 --init @fd"}
        stems = {"fd_20": fd}
    else:  # GRPO from three checkpoints of FD; all of these end at step m
        main |= {f"fd_{s}": fd_of(s) for s in (10, 20, 40)}
        main |= {f"grpo_over_fd{'' if s == 20 else f'_{s}'}": f"{GRPO} --steps {m - s} --init @fd_{s}" for s in (20, 10, 40)}
        stems = {"grpo_50": f"{GRPO} --steps 50"}
    bases = [b for b in ("own", "all") if (ROOT / "out" / b / "run").is_dir()]  # there only after experiments/narrow_base.py
    as_tiny = "--model out/{}/run/ckpt/student --prompts-per-step 64 --max-new-tokens 80 --micro-tokens 2048 --warmup 10 --lean-timeout 10"
    tiny_tools = "--model tiny-tools --max-new-tokens 160"
    at_valid = fd.replace("--eval-every 10", "--eval-every 20")
    orders = {"be_concise": "Be concise.", "two_words": "1. Write `intro`, not `assume`; write `constructor`, not `split`."}
    return {
        "lr": ("Which learning rate? Validation, a seed of its own", end[0], "valid", sweep),
        "main": ("FD, GRPO, GRPO over FD, imitation of reference proofs (the paper's figure 2)", main_samples, "test", main),
        "passk": ("pass@k at equal pass@1, and variety (figure 3)", main_samples, "test", main | stems),
        "sources": ("Who gives the feedback? (figures 4 and 5)", *end,
                    {s: fd if s == "tutor" else f"{fd} --feedback {s}" for s in ("tutor", "truth", "lean", "self")}),
        "proofs": ("The same reference proofs, imitated (sft) or shown to the teacher (ours)", *end,
                   {"sft": f"--algo sft --steps {n} --lr {LR['sft']}", "truth": f"{fd} --feedback truth", "tutor": fd}),
        "beyond": ("What the paper does not do: one change each (ours; validation set)", end[0] and 4, "valid",
                   {"fd": at_valid, "reverse": f"{at_valid} --tail reverse"} | {change: f"experiments/beyond.py {change} {at_valid}" for change in CHANGES}
                   | {f"base_{b}": f"{as_tiny.format(b)} {at_valid}" for b in bases}),
        "tools": ("With a search and without (the paper's tool ablation, figure 8)", *end,
                  {"no_tools": f"{tiny_tools} {fd}", "tools": f"{tiny_tools} {fd} --tools"}),
        "ema": ("How fast does the teacher follow? (figure 6)", *end,
                {a: fd if a == "0.9" else f"{fd} --ema-alpha {a}" for a in ("0 0.9 1" if quick else "0 0.3 0.5 0.75 0.9 1").split()}),
        "constant": ("A constant order and a frozen teacher (figure 7)", *end,
                     {arm: f"{fd} --ema-alpha 1 --feedback {shlex.quote('const:' + text)}"
                      for arm, text in orders.items()}),
        "styles": ("How structured is the tutor's advice? (figure 12)", *end,
                   {f"style_{s}": fd if s == 4 else f"{fd} --feedback-style {s}" for s in ((1, 4) if quick else (1, 2, 3, 4))}),
        "tail": ("What happens to the mass outside the top K? (ours; where K is small, drop should sharpen by itself)", *end,
                 {f"{t}_{k}": fd_of(20 if quick else 3 * m if k == 1 else m) + f" --tail {t}" * (t != "drop") + f" --top-k {k}" * (k != 25)
                  for k in ((1, 25) if quick else (1, 5, 25, 100)) for t in ("drop", "bucket")}),
    }

CURVES = "pass entropy kl kl_ref length teacher_mass flat_groups called".split()  # of log.jsonl, as train_...

@dataclass(frozen=True)
class Run:
    """One folder: what is run, with which flags, and what must be finished before."""
    folder: Path
    train: tuple[str, ...]  # flags of train.py, behind another script's name where there is one; empty: the base as it is
    evaluate: tuple[str, ...]  # flags of eval.py; empty: none
    after: "Run | None" = None

    @property
    def flags(self) -> str:
        """All that decides the result; the text in `done`."""
        return shlex.join((*self.train, "|", *self.evaluate)) + (f" after {self.after.flags}" if self.after else "")

    @property
    def state(self) -> str:
        """done; broken off (with these flags, and a checkpoint to go on from); new."""
        done, begun = self.folder / "done", self.folder.with_name(self.folder.name + ".flags")
        if done.is_file() and json.loads(done.read_text())["flags"] == self.flags:
            return "done"
        same = begun.is_file() and begun.read_text() == self.flags and not done.exists()
        return "broken off" if same and any(self.folder.glob("ckpt*/state.pt")) else "new"

def plan(names: list[str], cfg) -> dict:
    """-> {(experiment, arm, seed): Run}; arms with the same flags and seed get the same Run, in the folder of the first."""
    runs, shared = {}, {}
    for name, (_, samples, split, arms) in experiments(cfg.quick).items():
        for arm, text in arms.items():
            for seed in [100] if name == "lr" else [0] if cfg.quick else [0, 1, 2]:
                words, after = shlex.split(text), None
                if words and words[-1].startswith("@"):
                    after = runs[name, words[-1][1:], seed]
                    words[-1] = str(after.folder)
                train = (*words, "--seed", str(seed)) if words else ()
                evaluate = ("--split", split, "--samples", str(samples), "--seed", str(seed)) if samples else ()
                evaluate += ("--data", cfg.data) if cfg.data != "toy" and samples else ()
                run = Run(Path(cfg.out) / name / f"{arm}_s{seed}", train, evaluate, after)
                runs[name, arm, seed] = shared.setdefault((train or seed, after and after.flags), run)
    return {key: run for key, run in runs.items() if key[0] in names}

# --- running
children: set[subprocess.Popen] = set()

def call(words: list[str], log: Path):
    """A script in a process of its own with one thread. Errors: RuntimeError with the last line of its log."""
    with log.open("a") as file:
        child = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=file, stderr=file, start_new_session=True,  # Ctrl-C reaches it once, from us
                                 env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    children.add(child)
    code = child.wait()
    children.discard(child)
    if code:
        raise RuntimeError(f"{shlex.join(words[:1])} ended with {code}, see {log}: {(log.read_text().splitlines() or [''])[-1][:300]}")

def execute(run: Run) -> str:
    """Train, evaluate, mark as done; or go on where it was broken off. -> what was done, in words"""
    state, clock, folder = run.state, time.perf_counter(), run.folder
    if state == "done":
        return "finished before"
    if run.after and run.after.state != "done":
        raise RuntimeError(f"{run.after.folder}, from which it starts, is not finished")
    if state == "new":
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.with_name(folder.name + ".flags").write_text(run.flags)
    log, before = folder.with_name(folder.name + ".txt"), sum(r["seconds"] for r in lines(folder / "log.jsonl"))
    if run.train:
        script = [] if run.train[0].endswith(".py") else ["train.py"]
        call([*script, *run.train, "--out", str(folder), *["--resume"] * (state == "broken off")], log)
    if run.evaluate:
        call(["eval.py", *([str(folder)] if run.train else ["--model", "tiny"]), *run.evaluate, "--out", str(folder)], log)
    seconds = before + time.perf_counter() - clock
    (folder / "done.new").write_text(json.dumps({"flags": run.flags, "commit": commit(), "seconds": seconds}))
    (folder / "done.new").rename(folder / "done")
    return f"{'resumed' if state == 'broken off' else 'run'}, {seconds:.0f} s"

def execute_all(runs: list[Run], jobs: int) -> list[str]:
    """Every run, `jobs` side by side; a failure does not stop the others. -> the failures. Ctrl-C stops all after their step."""
    runs = sorted(runs, key=lambda run: run.after is not None)  # stable: what others start from comes first
    pool, futures, failures = ThreadPoolExecutor(jobs), {}, []

    def work(run):
        if run.after in futures:
            futures[run.after].exception()  # it was taken from the queue before this one: no deadlock
        return execute(run)
    try:
        for run in runs:
            futures[run] = pool.submit(work, run)
        for i, run in enumerate(runs, 1):
            try:
                said = futures[run].result()
            except (RuntimeError, OSError) as error:
                said = f"FAILED: {error}"
                failures.append(f"{run.folder}: {error}")
            print(f"[{i}/{len(runs)}] {run.folder.parent.name}/{run.folder.name}: {said}", flush=True)
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in list(children):
            child.terminate()  # train.py ends its step and saves
        pool.shutdown()
        sys.exit("stopped; the same command goes on from here")
    return failures

def estimate(runs: list[Run], jobs: int) -> float:
    """Minutes that the unfinished of `runs` will take, roughly."""
    total = 0.0
    for run in (r for r in runs if r.state != "done"):
        flag = lambda name, default, words=run.train + run.evaluate: words[words.index(name) + 1] if name in words else default  # noqa: E731
        steps, algo = int(flag("--steps", 60)) if run.train else 0, flag("--algo", "fd")
        total += COST["start"] * (bool(run.train) + bool(run.evaluate)) + int(flag("--samples", 0)) * COST["256 attempts"]
        total += steps * (COST[algo] + COST["self"] * (flag("--feedback", "") == "self") + COST["taught"] * ("taught" in str(run.train))
                          + COST["tools"] * ("--tools" in run.train))
        total += COST["valid"] * (steps // (int(flag("--eval-every", 10)) or 9999) + 1) * bool(run.train)
    return total / jobs / 60

# --- reading
def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.is_file() else []

def commit() -> str:
    """Short hash of the checkout, with + where the scripts differ from it."""
    git = lambda *words: subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()  # noqa: E731
    scripts = "train.py eval.py fd_mini.py feedback.py lean_env.py data".split()
    return (git("rev-parse", "--short", "HEAD") or "unknown") + "+" * bool(git("--no-optional-locks", "status", "--porcelain", "--", *scripts))

def totals(run: Run | None) -> tuple[list[int], list[float]]:
    """Attempts (for sft: proofs read) and seconds of training after 0, 1, 2, ... steps of the run, with those of the run it starts from."""
    if run is None or not run.train:
        return [0], [0.0]
    config = json.loads((run.folder / "config.json").read_text())
    samples, seconds = ([column[-1]] for column in totals(run.after))
    for row in lines(run.folder / "log.jsonl"):
        samples.append(samples[-1] + config["prompts_per_step"] * config["group_size"])
        seconds.append(seconds[-1] + row["seconds"])
    return samples, seconds

def variety(rollouts: list[dict], first: int, last: int) -> dict:
    """Distinct tactics and lemmas in the proofs of some steps. Two theorems a step, one attempt at each: all that GRPO's log holds."""
    proofs, tactics, lemmas = [], set(), set()
    for step in range(first, last + 1):
        attempts = {r["name"]: r for r in reversed(rollouts) if r["step"] == step}  # the first attempt at each theorem, last first
        proofs += [r["text"] for r in list(attempts.values())[-2:] if r["status"] == "proved"]
    for text in proofs:
        tactics |= tactics_of(text)
        lemmas |= set(re.findall(r"\b[A-Z]\w*\.\w+", text))
    return {"train_tactics": len(tactics), "train_lemmas": len(lemmas)}

def read(key: tuple, run: Run, attempts: int, split: str) -> list[Row]:
    """The run's lines of results.csv: curves of about 30 points (each the mean of the steps up to it), and the end results on
    `split`; attempts 0: the last of its own evaluations is the end result."""
    (samples, seconds), rows = totals(run), []
    offset = run.after and len(lines(run.after.folder / "log.jsonl")) or 0
    put = lambda step, name, value: rows.append(Row(*key, offset + step, samples[step], round(seconds[step], 2), name, float(f"{value:.6g}")))  # noqa: E731
    log, rollouts = lines(run.folder / "log.jsonl"), lines(run.folder / "rollouts.jsonl")
    width, wide = max(1, len(log) // 30), 10  # steps in a point
    for start in range(0, len(log), width):
        part = log[start : start + width]
        for name in (n for n in CURVES if n in part[0]):
            put(part[-1]["step"], f"train_{name}", sum(r[name] for r in part) / len(part))
    for start in range(1, len(log) + 1, wide) if rollouts else ():
        for name, value in variety(rollouts, start, start + wide - 1).items():
            put(min(start + wide - 1, len(log)), name, value)
    valid = lines(run.folder / "valid.jsonl")
    for row in valid:
        for name in ("pass@1", "entropy", "length", "tactics"):
            put(row["step"], f"valid_{name}", row[name])
    path = run.folder / "eval.json"
    end = next(iter(json.loads(path.read_text()).values())) if attempts else valid[-1] if valid else {}
    for name, value in end.items():
        if re.fullmatch(r"pass@\d+|entropy|length|cut|tactics", name):
            put(len(log), name if split == "test" else f"final_valid_{name}", value)
    return rows

# --- experiments/README.md
def section(name: str, question: str, rows: list[Row], runs: dict, cfg) -> str:
    """What was asked, how it was run, the end results over the seeds and one sentence."""
    mine = [r for r in rows if r.experiment == name]
    marks = [json.loads((run.folder / "done").read_text()) for run in set(runs.values())]
    arms = dict.fromkeys(r.arm for r in mine)  # arms shared with `main` have more attempts and pass@k: only what all arms have
    columns = [m for m in dict.fromkeys(r.metric for r in mine) if re.fullmatch(r"(final_valid_)?(pass@\d+|entropy|length|cut)", m)
               and all(any((r.arm, r.metric) == (arm, m) for r in mine) for arm in arms)]
    text = f"## {name}\n\n{question}.\n\n![{name}](figures/{name}.png)\n\n"
    text += "| arm | " + " | ".join(columns) + " | steps | attempts | seconds |\n|---" + "|---" * (len(columns) + 3) + "|\n"
    for arm in arms:
        ends, last = {c: p[-1] for c in columns if (p := points(mine, arm, c))}, max((r for r in mine if r.arm == arm), key=lambda r: r.step)
        cells = [f"{e[3]:.3f}" + f" [{e[4]:.3f}, {e[5]:.3f}]" * (e[4] < e[5]) if (e := ends.get(c)) else "" for c in columns]
        text += f"| {arm} | " + " | ".join(cells) + f" | {last.step} | {last.samples} | {last.seconds:.0f} |\n"
    if name == "lr":
        ends = {arm: p[-1][3] for arm in dict.fromkeys(r.arm for r in mine) if (p := points(mine, arm, "final_valid_pass@1"))}
        best = {algo: max((a for a in ends if a.startswith(algo + "_")), key=ends.get, default="none").split("_")[-1] for algo in LR}
        text += "\nBest: " + ", ".join(f"{a} {best[a]} (the others use {LR[a]})" for a in LR) + ".\n"
    missing = [f"{arm} (seed {seed})" for (which, arm, seed), run in plan([name], cfg).items() if run.state != "done"]
    text += f"\nNot run yet: {', '.join(missing)}.\n" * bool(missing)
    example = next((run for run in runs.values() if run.train), None)
    text += f"\n`python experiments/figures.py{' --quick' * cfg.quick} --only {name}`" + (f", whose runs are like `python train.py {shlex.join(example.train)}`" if example else "")
    text += f" · commit {', '.join(sorted({m['commit'] for m in marks}))} · {sum(m['seconds'] for m in marks) / 60:.0f} minutes of one-thread runs, those shared with other experiments included.\n"
    return text + f"\nOn the committed numbers: **{SENTENCES.get(name, 'not yet written')}**\n" * (not cfg.quick)

def report(cfg, names: list[str]) -> Path:
    """results.csv, pictures and README.md of what is finished of `names`; what they hold of other experiments stays."""
    out, table = Path(cfg.results), experiments(cfg.quick)
    runs = {key: run for key, run in plan(names, cfg).items() if run.state == "done"}
    rows = [row for key, run in runs.items() for row in read(key, run, *table[key[0]][1:3])]
    out.mkdir(parents=True, exist_ok=True)
    old = (out / "README.md").read_text() if (out / "README.md").is_file() else ""
    sections = {name: text for text, name in re.findall(r"^(## (\w+)\n.*?\n)(?=\n## |\Z)", old, re.M | re.S)}
    done, numbers = {row.experiment for row in rows}, out / "results.csv"
    with numbers.open(newline="") if numbers.is_file() else io.StringIO() as file:
        kept = [row for row in list(csv.reader(file))[1:] if row[0] in table.keys() - done]
    with numbers.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([Row._fields, *sorted([*kept, *rows], key=lambda row: list(table).index(row[0]))])
    seeds = "one seed and few steps (QUICK): a look, no evidence" if cfg.quick else "three seeds, mean [lowest, highest]; bands are the same"
    text = (f"# What was run, and what came out\n\nWritten by `experiments/figures.py`: {seeds}. `make figures` runs what is not finished. "
            "Test set unless a column says otherwise; `train_` curves in results.csv are means of the steps up to theirs; seconds are of training, "
            "one thread each, two runs side by side; attempts of `sft` are proofs read.\n")
    for name in table:
        if mine := [row for row in rows if row.experiment == name]:
            picture(mine, out / "figures" / f"{name}.png")
            sections[name] = section(name, table[name][0], rows, {key: run for key, run in runs.items() if key[0] == name}, cfg)
        text += "\n" + sections[name] if name in sections else ""
    (out / "README.md").write_text(text)
    return out

@dataclass
class Config:
    """The experiments of the paper at toy scale."""
    quick: bool = False  # one seed, few steps
    only: tuple[str, ...] = ()  # these experiments; empty: all
    jobs: int = 2  # runs side by side, one thread each
    out: str = ""  # folder of the runs; empty: out/figures, or out/figures_quick
    results: str = ""  # folder of results.csv, README.md and figures/; empty: experiments, or with --quick the folder of the runs
    data: str = "toy"  # theorems of the end results: the toy's, or a jsonl file

def main(cfg: Config) -> list[str]:
    """Run what is not finished, then write the report. -> the failures"""
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cfg.out = cfg.out or "out/figures" + "_quick" * cfg.quick
    cfg.results = cfg.results or (cfg.out if cfg.quick else "experiments")
    names = list(cfg.only or experiments(cfg.quick))
    if unknown := set(names) - experiments(cfg.quick).keys():
        raise ValueError(f"--only {' '.join(unknown)}: there is {', '.join(experiments(cfg.quick))}")
    runs = list(dict.fromkeys(plan(names, cfg).values()))
    runs = list(dict.fromkeys([run.after for run in runs if run.after] + runs))  # what they start from, where --only left it out
    print(f"{len(runs)} runs, {sum(run.state == 'done' for run in runs)} of them finished; the rest takes about {estimate(runs, cfg.jobs):.0f} minutes", flush=True)
    failures = execute_all(runs, cfg.jobs)
    print(f"{report(cfg, names) / 'README.md'}, results.csv and figures/ written" + "".join(f"\n{f}" for f in failures))
    return failures

if __name__ == "__main__":
    try:
        sys.exit(1 if main(tyro.cli(Config, description=__doc__)) else 0)
    except (ValueError, OSError) as error:
        sys.exit(f"figures.py: {error}")
