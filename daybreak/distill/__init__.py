"""Few-step models from trained ones."""
