"""Which words a proof may hold, and which axioms it may rest on."""

import re

from lean.text import COMMAND, TOKEN, tokens

ALLOWED_AXIOMS = {"propext", "Classical.choice", "Quot.sound"}

# No honest proof has these: they assume what is to be shown, change what is read, or run code
# while Lean reads. Words that Lean lets a variable have (`admit`, `stop`, `native`) are not here:
# what they do shows in the axioms; nor are attributes, of which few pass (below).
CHEAT = set("""
    sorry axiom opaque unsafe native_decide import initialize builtin_initialize macro macro_rules elab elab_rules by_elab syntax
    declare_syntax_cat notation notation3 infix infixl infixr prefix postfix binder_predicate
    simproc dsimproc simproc_decl dsimproc_decl run_cmd run_tac run_elab run_meta include_str
    register_option register_simp_attr register_label_attr register_tactic_tag
    tactic_extension register_error_explanation declare_config_elab
    declare_command_config_elab #eval #eval! #exit #guard #html
    """.split())
CHEAT_NAMES = set("""
    sorryAx lcProof unsafeCast ofReduceBool reduceBool reduceNat trustCompiler addDecl
    """.split())
# The doors to Lean's own machinery and to files: a variable may have such a name, too, where no
# namespace is opened.
CHEAT_NAMESPACES = set("Lean IO System Aesop Qq".split())
OPENS = set("open namespace export".split())

# Of options and attributes only those pass that are known to be harmless.
OPTIONS = re.compile(
    r"max(RecDepth|Heartbeats)|synthInstance\.max\w+|(pp|linter)\.[\w.]+"
    r"|(relaxedA|a)utoImplicit|tactic\.hygienic|exponentiation\.threshold"
)
ATTRIBUTES = set("""
    simp simps ext refl rfl symm trans congr gcongr mono reducible irreducible semireducible
    inline always_inline noinline specialize elab_as_elim induction_eliminator
    cases_eliminator match_pattern instance coe class default_instance norm_cast push_cast
    field_simps fun_prop bound nolint deprecated local scoped grind simps!
    """.split())


def guard(text, embedded, sketch=False):
    """What a prover wrote -> ((cheat word, its offset) or None, must it have a process of its
    own?). A `sketch` may hold `sorry`."""
    found, ok = tokens(text)
    code_in_string = re.search(r'"[^"]*\{|\'\\?"\'', text)  # or a quote in quotes
    if code_in_string:  # then all of it is read as code
        found, _ = tokens(re.sub("[\"'-]", " ", text))
        ok = False

    # A full Lean has more commands than we can list; they begin at the margin, where a proof's
    # later lines seldom do.
    command = any(word in COMMAND or re.match(r"#\w", word) for word, _ in found)
    at_margin = any(at > 0 and text[at - 1] == "\n" for _, at in found)
    alone = not ok or command or (at_margin and not embedded)
    return first_cheat(found, sketch), alone


def first_cheat(found, sketch):
    """The first (token, offset) that a proof may not hold, or None."""
    opens = any(word in OPENS for word, _ in found)
    depth = 0  # of brackets, inside `@[...]` or `attribute [...]`
    last = ""
    for word, at in found:
        if word == "[" and (depth or last in ("@", "attribute")):
            depth += 1
        elif word == "]" and depth:
            depth -= 1

        before_name = depth and last in ("[", ",", "-", "local", "scoped")
        is_attribute = before_name and TOKEN.match(word)["word"]
        if (
            (is_cheat(word, opens) and not (sketch and word == "sorry"))
            or (last == "set_option" and not OPTIONS.fullmatch(word))
            or (is_attribute and word not in ATTRIBUTES)
        ):
            return word, at
        last = word
    return None


def is_cheat(word, opens):
    """Keywords count as whole names, constants as any part of a dotted one. `opens`: the text
    opens namespaces."""
    parts = re.sub("[«»]", "", word).split(".")
    reaches = len(parts) > 1 or opens
    if reaches and not CHEAT_NAMESPACES.isdisjoint(parts):
        return True
    return word in CHEAT or not CHEAT_NAMES.isdisjoint(parts)
