"""Runs looked at from outside, while they train or after: status.py (one), compare.py (several)."""
