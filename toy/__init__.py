"""The world in miniature: theorems, provers and a tutor that need no GPU, no network and no Lean beside ours."""
