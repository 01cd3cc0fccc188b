"""Training shards: what lies on disk, and how it is read in an order that any position tells."""
