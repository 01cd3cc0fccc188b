"""Losses: pure functions, each a term with a name; compute.py gathers them."""
