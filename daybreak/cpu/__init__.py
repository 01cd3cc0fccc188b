"""What a CPU gets in place of torch's operations, where those pass over memory too often."""
