"""The offline tutor: advice by rule, in place of a strong language model.

The toy's provers learnt Lean 3 and are judged in Lean 4. What they lack is the table of
names below, and the tutor tells it to them, name by name.
"""

import re
from itertools import pairwise


# Lean 3 name -> Lean 4 name: what an old prover gets wrong, and what feedback can tell it.
OUTDATED = {
    "assume": "intro",
    "split": "constructor",
    "existsi": "exists",
    "refl": "rfl",
}
CAPITALISED = (
    "or.inl or.inr and.intro iff.intro eq.symm nat.add_comm nat.add_assoc nat.add_zero "
    "nat.zero_add nat.mul_comm nat.mul_one nat.one_mul nat.le_refl nat.zero_le nat.le_succ"
)
OUTDATED |= {old: old.capitalize() for old in CAPITALISED.split()}
CURRENT = {new: old for old, new in OUTDATED.items()}

# A whole Lean name. `| refl =>` is left alone: there it is the constructor of `Eq`, and
# current.
NAME = re.compile(r"(?<!\| )(?<![\w.'])[^\W\d][\w']*(?:\.[^\W\d][\w']*)*")


# A line that ends so goes on in the next one, and one that begins so goes on from the last one.
OPEN = re.compile(r"(?:\b(?:with|by|from|calc|exact)|=>|:=|[,(⟨\[]|<;>)$")
JOINED = ("|", ")", "⟩", "]", "(", "⟨", "<;>")


def outdated(proof):
    """The current names in a proof that have an outdated twin, in order."""
    return [name for name in NAME.findall(proof) if name in CURRENT]


def tutor(rollout, style=4):
    """One to three sentences about an attempt, by rule. The tutor may look at the reference
    proof, which the student never sees. Styles are those of feedback.LEVELS: 1 is prose and 2
    items about the attempt, 3 and 4 are orders that stand on their own.

    Attempt "  assume h\\n  exact k", reference "by\\n  intro h\\n  exact h", style 4:
        1. Write `intro`, not `assume`.
        2. Use `exact h`, not `exact k`.
    """
    attempt = rollout.proof
    proved = rollout.verdict.status == "proved"
    reference = rollout.theorem.proof or (attempt if proved else "")

    # What Lean accepts is current, and so is what the reference says.
    stale = {}
    if not proved:
        known = NAME.findall(reference)
        stale = {old: new for old, new in OUTDATED.items() if old not in known}
    used = [old for old in NAME.findall(attempt) if old in stale]

    # Orders name the reference's words after successes too: once feedback is silent about them,
    # the teacher unteaches them.
    told = used
    if style >= 3:
        told = [CURRENT[new] for new in outdated(reference)] + used
    names = [order_name(old, bool(rollout.conversation)) for old in dict.fromkeys(told)]

    renamed = NAME.sub(lambda name: stale.get(name[0], name[0]), attempt)
    wanted = renamed if proved else reference
    step = order_step(renamed, wanted, rollout.verdict, sound=proved or bool(used))
    items = ["; ".join(names[:4]), step]
    if style != 3 and not rollout.finished:
        items.append("be shorter: stop as soon as the goal is closed")
    items = [" ".join(item.split()[:44]) for item in items if item]

    if style >= 3:
        items = [f"{item[0].upper()}{item[1:]}." for item in items]
    else:
        lead = "The attempt was right" if proved else "About the attempt"
        items = [f"{lead}: {item}." for item in items]
    if style == 1:
        return " ".join(items)
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))


def order_name(old, has_tools):
    """What to do about an outdated name: write the current one, or search for it with a
    tool."""
    if has_tools and "." in old:
        lemma = old.partition(".")[2]
        return f"search `{lemma}`"
    return f"write `{OUTDATED[old]}`, not `{old}`"


def order_step(attempt, reference, verdict, sound):
    """An order about the first step that is not the reference's. Where none differs it is about
    the step that decides, if the attempt is `sound`, or else about Lean's error."""
    wanted = steps_of(reference)
    # Where each of the reference's lines is a step, so is each of the attempt's.
    steps = steps_of(attempt, grouped="\n" in "".join(wanted))

    padded = steps + [""] * len(wanted)
    for got, want in zip(padded, wanted):
        if got.split() != want.split():
            if not is_tactics(reference):  # nothing in it stands for a single line
                return f"write {quoted(want)}"
            order = f"use {quoted(want)}"
            worth_quoting = 0 < len(got) <= 60 and got.isprintable() and "`" not in got
            return f"{order}, not `{got}`" if worth_quoting and ";" not in want else order

    if len(steps) > len(wanted) > 0:
        return f"stop after {quoted(wanted[-1])}"
    if wanted and sound:
        # `intro` and `constructor` follow from the goal's shape: another line decided it.
        decisive = [line for line in wanted if not line.startswith(("intro", "constructor"))]
        return f"keep {quoted([*decisive, wanted[-1]][0])}"
    return order_about_error(verdict)


def is_tactics(proof):
    return re.match(r"\s*by\b", proof)


def steps_of(proof, grouped=True):
    """The lines of a proof without `by`, bullets, comments and indentation; a term's with `exact`.

    grouped: lines that belong to the step above them, by their indentation or their beginning,
    are lines of that step's text.
    """
    text = re.sub(r"/-(?s:.*?)-/|--.*", "", proof)
    if text.strip() and not is_tactics(text):
        text = "by exact " + text.strip().replace("\n", "\n    ")
    text = re.sub(r"\A\s*by\b", "  ", text)

    steps = []
    column = 0  # where the newest step's first word stands
    for line in text.splitlines():
        bullets = re.match(r"(?:[\s·]|\.\s)*", line)[0]
        words = " ".join(line[len(bullets) :].split())
        indent = len(line) - len(line.lstrip())
        if grouped and steps and (indent > column or words.startswith(JOINED)):
            steps[-1] += f"\n{words}"
        elif words:
            column = len(bullets)
            steps.append(words)
    return steps


def quoted(step):
    """A step in one line, as Lean takes it, in backticks; or else the name of its tactic."""
    lines = list(filter(None, step.split("\n")))
    fits = all(OPEN.search(a) or b.startswith(JOINED) for a, b in pairwise(lines))
    text = " ".join(lines)
    if len(re.findall(r"\bwith\b", text)) > 1:
        fits = False  # in one line all alternatives would be the inner one's
    if fits and not OPEN.search(text) and "`" not in text and len(text.split()) <= 30:
        return f"`{text}`"
    tactic = re.match(r"\w*", text)[0]
    return f"the tactic `{tactic}`" if tactic else "another tactic"


def order_about_error(verdict):
    """Lean's first error, with the goal where the error does not say it."""
    errors = [m["data"] for m in verdict.messages if m["severity"] == "error"]
    if not errors:
        return "prove the statement itself, without `sorry` or new axioms"

    error = " ".join(errors[0].split()[:30]).rstrip(".")
    # The goal may stand in another message, such as the ones that --lean dojo adds.
    everything = "\n".join(m["data"] for m in verdict.messages)
    goal = re.search(r"⊢ (.*(?:\n  .*)*)", everything)
    if not goal or "⊢" in error:
        return f"avoid the error: {error}"
    return f"avoid the error: {error}; the goal is `{' '.join(goal[1].split())}`"
