"""Thrown away later: data/ becomes a package of its own."""
