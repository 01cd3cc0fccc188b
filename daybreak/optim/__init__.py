"""Muon for the blocks' matrices, AdamW for the rest; groups.py accounts for every parameter."""
