"""The world in miniature: theorems, tiny provers and a tutor for a laptop."""
