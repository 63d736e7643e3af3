"""How Lean is run, and how answers are read: what a first reading of the project skips."""
