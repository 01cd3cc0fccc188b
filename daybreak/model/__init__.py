"""The pixel transformer. Read transformer.py first, then layers.py and rope.py."""
