"""Pictures to features: networks with their own resizing, streaming extraction, cached statistics."""
