"""What a first reading skips: one subject a file, imported where it is used."""
