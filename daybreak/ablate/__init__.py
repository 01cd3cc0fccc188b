"""Variants of a recipe over seeds, at equal time or equal steps: what a part of the recipe is worth."""
