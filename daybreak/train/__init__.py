"""Training: loop.py is the run, step.py one step of it, state.py what a run consists of."""
