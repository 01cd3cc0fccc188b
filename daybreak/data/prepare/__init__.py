"""From any pile of captioned pictures to training shards."""
