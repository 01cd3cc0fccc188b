"""What each kind of cluster is given. Every form restarts after a lost node and goes on from the last checkpoint."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

import yaml

from daybreak.launch.settings import LaunchSettings

PORT = 29400
RESTARTS = 10


@dataclass(frozen=True, kw_only=True)
class Job(LaunchSettings):
    """words: what follows `daybreak train`, --out and --resume auto included. minutes: the job's longest time."""

    name: str
    words: list[str]
    minutes: int | None = None

    def torchrun(self, rendezvous: str | None) -> list[str]:
        """The command on each node; rendezvous: host and port of one of several."""
        where = ["--standalone"] if rendezvous is None else [
            "--rdzv-backend=c10d", f"--rdzv-endpoint={rendezvous}", f"--rdzv-id={self.name}"]  # fmt: skip
        many = [f"--nnodes={self.nodes}", f"--nproc-per-node={self.gpus}", f"--max-restarts={RESTARTS}"]
        return ["torchrun", *many, *where, "-m", "daybreak", "train", *self.words]


def local(job: Job) -> str:
    """A shell script for this machine."""
    return f"#!/bin/bash\nset -euo pipefail\nexec {shlex.join(job.torchrun(None))}\n"


def slurm(job: Job) -> str:
    """A batch script: one torchrun a node; SLURM's SIGTERM before the time limit makes the run save."""
    limit = f"#SBATCH --time={job.minutes}\n" if job.minutes is not None else ""
    command = shlex.join(job.torchrun("RENDEZVOUS")).replace("RENDEZVOUS", f'"$head:{PORT}"')
    return (
        "#!/bin/bash\n"
        f"#SBATCH --job-name={job.name}\n#SBATCH --nodes={job.nodes}\n#SBATCH --ntasks-per-node=1\n"
        f"#SBATCH --gpus-per-node={job.gpus}\n#SBATCH --exclusive\n#SBATCH --requeue\n#SBATCH --open-mode=append\n"
        f"#SBATCH --signal=TERM@120\n#SBATCH --output={job.name}-%j.log\n{limit}"
        "set -euo pipefail\n"
        'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)\n'
        f"srun --kill-on-bad-exit=0 {command}\n"
    )


def sky(job: Job) -> str:
    """A SkyPilot task; `sky jobs launch` brings it back after a spot machine is taken away."""
    command = shlex.join(job.torchrun("RENDEZVOUS")).replace("RENDEZVOUS", f'"$head:{PORT}"')
    task: dict[str, Any] = {
        "name": job.name,
        "num_nodes": job.nodes,
        "resources": {"accelerators": f"{job.accelerator}:{job.gpus}", "use_spot": False},
        "workdir": ".",
        "setup": "pip install -e .\n",
        "run": f'head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)\n{command}\n',
    }
    if job.image is not None:
        task["resources"]["image_id"] = f"docker:{job.image}"
    return _yaml(task)


def kubernetes(job: Job) -> str:
    """A PyTorchJob of Kubeflow's training operator; the run folder has to lie on a volume named `runs`."""
    container = {
        "name": "pytorch",
        "image": job.image,
        "workingDir": "/workspace",
        "command": ["torchrun", f"--nnodes={job.nodes}", f"--nproc-per-node={job.gpus}",
                    f"--max-restarts={RESTARTS}", "--rdzv-backend=c10d", f"--rdzv-id={job.name}",
                    f"--rdzv-endpoint={job.name}-worker-0:{PORT}"],
        "args": ["-m", "daybreak", "train", *job.words],
        "resources": {"limits": {"nvidia.com/gpu": job.gpus}},
        "volumeMounts": [{"name": "runs", "mountPath": "/workspace"}, {"name": "shm", "mountPath": "/dev/shm"}],
    }  # fmt: skip
    volumes = [{"name": "runs", "persistentVolumeClaim": {"claimName": "runs"}},
               {"name": "shm", "emptyDir": {"medium": "Memory"}}]  # fmt: skip
    pods = {
        "replicas": job.nodes,
        "restartPolicy": "OnFailure",
        "template": {"spec": {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 300}},
    }
    policy: dict[str, Any] = {"backoffLimit": RESTARTS, "cleanPodPolicy": "Running"}
    if job.minutes is not None:
        policy["activeDeadlineSeconds"] = 60 * job.minutes
    return _yaml({
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": job.name},
        "spec": {"nprocPerNode": str(job.gpus), "runPolicy": policy, "pytorchReplicaSpecs": {"Worker": pods}},
    })  # fmt: skip


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=1000)


FORMS = {
    "local": (local, ".sh"),
    "slurm": (slurm, ".sbatch"),
    "sky": (sky, ".yaml"),
    "kubernetes": (kubernetes, ".yaml"),
}
SUBMIT = {
    "local": ["bash"],
    "slurm": ["sbatch"],
    "sky": ["sky", "jobs", "launch", "--yes"],
    "kubernetes": ["kubectl", "apply", "-f"],
}
