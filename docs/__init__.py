"""Pages for readers, and a tour that runs."""
