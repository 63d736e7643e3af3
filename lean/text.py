"""Reading Lean's text without Lean: tokens, open scopes, the parts of a theorem and a file."""

import re
from functools import lru_cache

# Where a name ends is Lean's rule to the letter: `Aᵀnotation` holds a keyword, `αnotation` does
# not.
LETTER = "A-Za-z_À-ÖØ-öø-ſΑ-ΟΡΤ-Ωα-κμ-ϻἀ-῾℀-⅏𝒜-𝖟"
PART = f"(?:«[^»\\n]*»|[{LETTER}][{LETTER}0-9'!?₀-₉ₐ-ₜᵢ-ᵪⱼ]*)"
NAME = rf"{PART}(?:\.{PART})*"

# After a symbol, `--` and `/-` may belong to it (`x <--y`, `{x //-x}`): there the text goes on,
# but for symbols of which we know that they end.
ENDED = r"(?:(?<![^\s\w'\"!?()\[\]{}⟨⟩,;·»])|(?<=:=)|(?<==>)|(?<=<;>))"
TOKEN = re.compile(
    rf"""
    (?P<comment>{ENDED}(?:--[^\n]*|/-))
  | (?P<string>r(?P<hash>\#*)".*?"(?P=hash)
             | "(?:[^"\\]|\\.)*"
             | '(?:[^'\\\n]|\\(?:[\\"'rnt]|[xu][0-9a-fA-F]+))')
  | (?P<word>{NAME})
  | (?P<broken>"|«|-/)
  | (?P<other>\#\w+
            | 0[xX][0-9a-fA-F_]+|0[bB][01_]+|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9]+)?
            | :=|=>|<;>|\S)
  | \s+""",
    re.X | re.S,
)
IMPORTS = re.compile(
    r"(?m)^[ \t]*(?:(?:public|private|meta)[ \t]+)*import[ \t]+(?:all[ \t]+)?\S+"
    r"|^(?:prelude|module)[ \t]*$"
)
OPENING, CLOSING = "([{⟨⦃⟦‹", ")]}⟩⦄⟧›"

# These start a command, or search the whole file.
COMMAND = set("""
    theorem lemma def abbrev example instance class structure inductive coinductive variable
    universe section namespace end export attribute mutual private protected public
    noncomputable partial nonrec deriving include omit local scoped open set_option
    meta add_decl_doc alias recall recommended_spelling deprecated gen_injective_theorems init_quot
    unlock_limits deprecated_syntax grind_pattern unif_hint library_note assert_not_exists
    assert_not_imported irreducible_def exact? apply? rw? try? hint observe?
    """.split())


@lru_cache(maxsize=16)  # a text is asked about several times in a row
def tokens(text):
    """Lean text -> (((token, offset), ...), ok): a dotted name in one piece, comments and strings
    left out. `ok` is False when a comment, string, quoted name or bracket is not closed where
    Lean would want it.

    >>> tokens("by exact sorry_not -- sorry")  # neither name nor comment gives a token `sorry`
    ((("by", 0), ("exact", 3), ("sorry_not", 9)), True)
    """
    found, brackets, ok = [], [], True
    position = 0
    while position < len(text):
        match = TOKEN.match(text, position)
        start, position = position, match.end()

        kind, token = match.lastgroup, match[0]  # None: white space
        if kind == "comment" and token == "/-":
            position = end_of_comment(text, position)
            if not position:
                return tuple(found), False
        elif kind == "broken":
            ok = False
        elif kind in ("word", "other"):
            found.append((token, start))
            if token in OPENING:
                brackets.append(OPENING.index(token))
            elif token in CLOSING:
                ok = ok and bool(brackets) and brackets.pop() == CLOSING.index(token)
    return tuple(found), ok and not brackets


def words(text):
    return [word for word, _ in tokens(text)[0]]


def step(word):
    """How much deeper in brackets the text is after this word."""
    if word in OPENING:
        return 1
    return -1 if word in CLOSING else 0


def end_of_comment(text, start):
    """Where the block comment ends whose inside begins at `start`; None when it does not."""
    depth = 1
    for mark in re.compile("/-|-/").finditer(text, start):
        depth += 1 if mark[0] == "/-" else -1  # block comments nest
        if depth == 0:
            return mark.end()
    return None


def scopes(text):
    """The namespaces, sections and `mutual`s that a text leaves open: [(word, name)]. Where
    this misreads it, Lean objects."""
    opened = []
    for word, at in tokens(text)[0]:
        if word not in ("namespace", "section", "mutual", "end"):
            continue
        name = re.match(rf"[ \t]+({NAME})", text[at + len(word) :])
        if name and name[1] not in COMMAND:
            names = re.findall(PART, name[1])
        else:
            names = [""]

        if word == "end":
            del opened[-len(names) :]
        else:
            opened += [(word, name) for name in names]
    return opened


def namespaces(text):
    """What the namespaces that a text leaves open put before a name: "A.B." or ""."""
    return "".join(f"{name}." for word, name in scopes(text) if word == "namespace")


def outer_namespace(theorem):
    """`theorem Nat.le.foo` is read inside the namespaces Nat and Nat.le: lines that open them
    (there must be one), and lines that close them."""
    *outer, _ = re.findall(PART, theorem)
    if not outer:
        return "", ""
    name = ".".join(outer)
    return f"namespace {name}\n", f"end {name}\n"


def is_declaration(text):
    """Has a proof more than a term: clauses that only a declaration can end with?"""
    return not {"where", "termination_by", "decreasing_by"}.isdisjoint(words(text))


def blank(text):
    """As many spaces, so that lines and columns of what follows stay what they are."""
    return re.sub(r"\S", " ", text)


def without_header(header, text):
    """A prover's file with its imports blanked, and the theorem's header, where it begins with
    that, as its author was shown it: ours stands before it."""
    text = IMPORTS.sub(lambda match: blank(match[0]), text)
    shown = words(IMPORTS.sub("", header))
    found = tokens(text)[0][: len(shown)]
    if not shown or [word for word, _ in found] != shown:
        return text
    word, at = found[-1]
    end = at + len(word)
    return blank(text[:end]) + text[end:]


def split_statement(statement):
    """-> (name, universes, binders, type) of "theorem NAME.{u} BINDERS : TYPE"; the first ":"
    outside brackets splits. Raises ValueError when there is none, or no `theorem NAME`.

    >>> split_statement("theorem t (h : 1 = 1 := rfl) : 1 = 1")
    ("t", "", " (h : 1 = 1 := rfl) ", " 1 = 1")
    """
    found, _ = tokens(statement)
    shown = repr(statement[:60])
    is_theorem = len(found) >= 2 and found[0][0] in ("theorem", "lemma")
    if not is_theorem or not re.match(r"(?!_root_)[^\W\d]|«", found[1][0]):
        raise ValueError(f"a statement must begin with `theorem NAME`, this one is {shown}")

    name, at = found[1]
    after_name = at + len(name)
    universes = re.match(r"(\.\{[^}]*\})?", statement[after_name:])[0]
    start = after_name + len(universes)

    depth = 0
    for token, at in found[2:]:
        depth += step(token)
        if token == ":" and depth == 0:
            return name, universes, statement[start:at], statement[at + 1 :]
    raise ValueError(f"the statement of {name} has no `: TYPE` outside its binders: {shown}")
