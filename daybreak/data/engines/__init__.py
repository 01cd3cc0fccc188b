"""Where the work on data runs: here, in processes, on this machine's GPUs, or on a Ray cluster."""
