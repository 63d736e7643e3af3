"""Ratios against alternatives: each script prints a table; nothing is asserted."""
