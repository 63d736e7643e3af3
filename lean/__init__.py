"""How Lean is run and how provers' answers are read."""
