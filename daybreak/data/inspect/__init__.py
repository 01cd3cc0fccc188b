"""What is wrong with a data set, why it matters and what to do."""
