"""Pictures and captions, from wherever they lie to a `Batch`."""
