"""Trains the embedded teacher, or one of a user's own pictures: `daybreak teach`. No caption and no label is read.

Two views of each picture (moved, other colours, noise, blur, a missing square) pass the network. A feature of the
first view must be told from the features of other places and other pictures by its likeness to the one of the same
place in the second (InfoNCE, arXiv 1807.03748, at patches as in DenseCL, arXiv 2011.09157). Places are drawn where the
picture has structure, since most of a scene is plain background. Without moves and other colours, place and
colour alone solve the task and shapes are not learned.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from daybreak.config import ConfigError
from daybreak.data.batch import Source
from daybreak.data.scenes.source import ScenesSource
from daybreak.data.scenes.world import SHAPES, TASKS
from daybreak.encoders.embedded_teacher import STRIDE, EmbeddedTeacher
from daybreak.encoders.teacher_file import RESOLUTION, TRAINING_SECONDS
from daybreak.encoders.vision import resize

BATCH = 96
PLACES = 6
"""Features of each picture that are compared."""
TEMPERATURE = 0.1
PROJECTED = 64
"""Width in which features are compared; the projection is thrown away."""
LEARNING_RATE = 3e-3
STANDARD = 11
"""Batches over which the features' mean and deviation are taken."""


def teach(source: Source, steps: int, out: Path, seed: int, tell: Callable[[str], object]) -> EmbeddedTeacher:
    """Trains a teacher of the pictures of `source` for `steps` steps; writes its weights (float16 safetensors).

    How long it took goes into the file's metadata. `tell` is given lines to show. The default 360 steps take less than
    2 minutes on two cores of 2021. ConfigError where pictures are smaller than RESOLUTION.
    """
    torch.manual_seed(seed)
    network, head = EmbeddedTeacher(), nn.Conv2d(EmbeddedTeacher().width, PROJECTED, 1)
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(seed)
    began = time.monotonic()
    every, shares = max(1, steps // 10), []

    def batch(number: int) -> Tensor:
        return cut(source.batch(number * BATCH, BATCH).images, generator)

    for step in range(steps):
        images = batch(step)
        move = [int(n) for n in torch.randint(-2, 3, (2,), generator=generator)]
        moved = images.roll([STRIDE * n for n in move], (2, 3))
        a, b = (F.normalize(head(network(view(x, generator))[-1]), dim=1) for x in (images, moved))
        b = b.roll([-n for n in move], (2, 3))
        loss, found = dense_info_nce(a, b, structured_places(images, PLACES, generator))
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 30, 2 * (1 - step / steps))
        optimizer.step()
        shares.append(found)
        if (step + 1) % every == 0:
            done, again = (step + 1) / steps, float(np.mean(shares[-every:]))
            tell(f"{done:4.0%}  places found again in another view: {again:.0%}  {time.monotonic() - began:.0f} s")
    seconds = time.monotonic() - began
    network.eval().standardise(torch.cat([batch(steps + n) for n in range(STANDARD)]))
    metadata = {TRAINING_SECONDS: f"{seconds:.1f}", "steps": str(steps), "seed": str(seed)}
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, out, metadata)
    return network


def cut(images: Tensor, generator: torch.Generator) -> Tensor:
    """A square of RESOLUTION px out of each picture, after shrinking all alike: [B, 3, H, W] -> [B, 3, 32, 32].

    So whatever the size at which a run shows its pictures to the teacher, it has seen them so. Raises ConfigError for
    smaller pictures.
    """
    least = min(images.shape[2:])
    if tuple(images.shape[2:]) == (RESOLUTION, RESOLUTION):
        return images
    if least < RESOLUTION:
        raise ConfigError(
            f"the pictures are {least} px on their shorter side; a teacher is taught from {RESOLUTION} px"
        )
    side = int(torch.randint(RESOLUTION, least + 1, (1,), generator=generator))
    height, width = (round(n * side / least) for n in images.shape[2:])
    images = resize(images, (height, width))
    top, left = (int(torch.randint(0, n - RESOLUTION + 1, (1,), generator=generator)) for n in (height, width))
    return images[:, :, top : top + RESOLUTION, left : left + RESOLUTION]


def view(images: Tensor, generator: torch.Generator) -> Tensor:
    """One damaged view of each picture; places stay where they are. [B, 3, H, W] -> [B, 3, H, W]."""
    b, _, h, w = images.shape
    mix = torch.eye(3) + torch.randn(b, 3, 3, generator=generator)  # of the three channels
    images = torch.einsum("bij,bjhw->bihw", mix / mix.norm(dim=2, keepdim=True), images)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = torch.rand(b, 1, 1, 1, generator=generator)
    x = images + share * (blurred - images)
    x = x + 0.4 * torch.rand(b, 1, 1, 1, generator=generator) * torch.randn(images.shape, generator=generator)
    side = h // 4
    top, left = (torch.randint(0, n - side + 1, (b, 1, 1, 1), generator=generator) for n in (h, w))
    rows, columns = torch.arange(h).view(1, 1, h, 1), torch.arange(w).view(1, 1, 1, w)
    missing = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return x.masked_fill(missing, 0.0)


def structured_places(images: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n places of each picture's feature grid, drawn in proportion to `structure`: [B, n] int64."""
    return torch.multinomial(structure(images) + 0.02, n, generator=generator)


def structure(images: Tensor) -> Tensor:
    """The pixels' standard deviation around each place of the feature grid: [B, 3, H, W] -> [B, places]."""
    b = len(images)
    patches = F.unfold(images, 2 * STRIDE, padding=STRIDE // 2, stride=STRIDE)  # [B, 3 * window, places]
    return patches.view(b, 3, -1, patches.shape[-1]).std(dim=2).mean(1)


def dense_info_nce(a: Tensor, b: Tensor, places: Tensor) -> tuple[Tensor, float]:
    """Cross-entropy of finding each place's partner among all, and the share that is most alike to it.

    a, b [B, C, H, W] of unit length, places [B, n].
    """
    index = places[:, None].expand(-1, a.shape[1], -1)
    first, second = (x.flatten(2).gather(2, index).transpose(1, 2).flatten(0, 1) for x in (a, b))  # [B n, C]
    likeness = first @ second.T / TEMPERATURE
    partner = torch.arange(len(first))
    found = float((likeness.argmax(1) == partner).float().mean())
    return (F.cross_entropy(likeness, partner) + F.cross_entropy(likeness.T, partner)) / 2, found


@torch.no_grad()
def probe(network: EmbeddedTeacher, scenes: int = 2400) -> float:
    """Share of unseen single shapes that least squares on features names; one in six is chance.

    The features are averaged over the places by how much structure is there.
    """
    only = tuple(float(task == "single_object") for task in TASKS)
    pictures, specs, _ = ScenesSource(RESOLUTION, 77, only).scenes(0, scenes)
    images = torch.from_numpy(pictures)
    weight = structure(images)
    features = (network(images)[-1].flatten(2) * (weight / weight.sum(1, keepdim=True))[:, None]).sum(2).double()
    labels = torch.tensor([SHAPES.index(s.objects[0].shape) for s in specs])
    inputs = torch.cat([features, torch.ones(scenes, 1, dtype=torch.float64)], 1)
    half = scenes // 2
    weights = torch.linalg.lstsq(inputs[:half], F.one_hot(labels[:half], len(SHAPES)).double(), driver="gelsd").solution
    return float(np.mean(((inputs[half:] @ weights).argmax(1) == labels[half:]).numpy()))
