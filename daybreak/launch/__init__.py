"""Starting a run on several GPUs: writes (and submits) what torchrun, SLURM, SkyPilot or Kubernetes start from."""
