"""Fine-tuning of Stable Diffusion and its kin: command.py is the order of things, loop.py the run, step.py one step."""
