"""One file a subcommand: what it does, in the order that a user meets it."""
