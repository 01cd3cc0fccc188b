"""Objects of a picture: Mask2Former through transformers, and CLIP for their colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from daybreak.config import ConfigError
from daybreak.encoders.vision import IMAGENET_MEAN, IMAGENET_STD
from daybreak.evaluate.features.networks import Clip, weights_note
from daybreak.evaluate.features.preprocess import normalise
from daybreak.evaluate.geneval.prompts import COLORS, GenEvalPrompt
from daybreak.evaluate.geneval.scoring import Detection
from daybreak.hub_models import load_pretrained

SHORT_PX, LONG_PX, DIVISOR = 800, 1333, 32
"""Pictures are scaled to this shorter side, or this longer one if that comes first, and padded to a multiple."""
DETECTIONS = 100
BLANK = (0x99, 0x99, 0x99)
"""What surrounds an object when its colour is asked for."""
OTHER_NAMES = {
    "mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard", "motorbike": "motorcycle",
    "aeroplane": "airplane", "sofa": "couch", "pottedplant": "potted plant", "diningtable": "dining table",
    "tvmonitor": "tv", "hair dryer": "hair drier", "trafficlight": "traffic light",
}  # fmt: skip
"""COCO's classes under the names that detectors give them: GenEval's name for each."""


class Detector:
    """Mask2Former for instances: pictures to detections, whose classes bear GenEval's names."""

    def __init__(self, weights: str | None, device: torch.device) -> None:
        from transformers import Mask2FormerForUniversalSegmentation

        self._model = load_pretrained(Mask2FormerForUniversalSegmentation, "mask2former", weights).to(device)
        self.note = weights_note("mask2former", weights)
        labels = self._model.config.id2label
        self.names = [OTHER_NAMES.get(labels[i], labels[i]) for i in range(len(labels))]

    def check(self, prompts: Sequence[GenEvalPrompt]) -> None:
        """Raises ConfigError where the prompts ask for a class that the detector does not know."""
        asked = {r.name for p in prompts for r in p.included} | {name for p in prompts for name, _ in p.excluded}
        if missing := sorted(asked - set(self.names)):
            raise ConfigError(
                f"the detector knows no {', '.join(missing[:5])}; GenEval needs one with COCO's 80 classes, "
                "such as facebook/mask2former-swin-small-coco-instance"
            )

    @torch.no_grad()
    def detect(self, image: Image.Image) -> list[Detection]:
        """The objects of an RGB picture, at most `DETECTIONS`, of any confidence."""
        pixels, mask = _scaled(image)
        device = self._model.device
        output = self._model(pixel_values=pixels.to(device), pixel_mask=mask.to(device))
        return instances(
            output.class_queries_logits[0].float(),
            output.masks_queries_logits[0].float(),
            self.names,
            (int(mask.sum(dim=1).max()), int(mask.sum(dim=2).max())),
            (mask.shape[1], mask.shape[2]),
            (image.height, image.width),
        )


def instances(
    class_logits: Tensor,
    mask_logits: Tensor,
    names: Sequence[str],
    scaled: tuple[int, int],
    padded: tuple[int, int],
    size: tuple[int, int],
) -> list[Detection]:
    """Mask2Former's outputs as objects (its paper, section 4; as in its instance inference).

    class_logits [Q, C + 1], the last class being none; mask_logits [Q, h, w] over the padded picture, of which
    `scaled` (height, width) is picture; `size` (height, width) is the picture's own. Confidence is the class's
    probability times the mean of the mask's probability where that is above one half.
    """
    probabilities = class_logits.softmax(dim=1)[:, :-1]
    best, places = probabilities.flatten().topk(min(DETECTIONS, probabilities.numel()))
    found, seen = [], {}  # by query, which may be among the best with several classes
    for share, place in zip(best.tolist(), places.tolist(), strict=True):
        query, label = divmod(place, probabilities.shape[1])
        if query not in seen:
            # One query at a time: 100 masks of a large picture at once would fill gigabytes.
            whole = functional.interpolate(mask_logits[None, query : query + 1], padded, mode="bilinear")
            own = functional.interpolate(whole[..., : scaled[0], : scaled[1]], size, mode="bilinear")[0, 0]
            seen[query] = _outlined(own)
        if (outlined := seen[query]) is not None:
            certainty, box, mask = outlined
            found.append(Detection(names[label], share * certainty, box, mask))
    return found


def _outlined(logits: Tensor) -> tuple[float, tuple[int, int, int, int], np.ndarray] | None:
    """A mask's mean probability where that is above one half, the box around it, the mask; None where it is empty."""
    mask = logits > 0
    if not mask.any():
        return None
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return float(logits.sigmoid()[mask].mean()), box, mask.cpu().numpy()


def _scaled(image: Image.Image) -> tuple[Tensor, Tensor]:
    """[1, 3, H, W] normalised and padded, and [1, H, W] long: 1 on the picture, 0 on the padding.

    As mmdet does it for GenEval; transformers' own processor would stretch the picture to the multiple.
    """
    scale = min(SHORT_PX / min(image.size), LONG_PX / max(image.size))
    width, height = (round(n * scale) for n in image.size)
    pixels = torch.from_numpy(np.array(image.resize((width, height), Image.Resampling.BILINEAR)))
    normal = normalise(pixels.permute(2, 0, 1)[None], IMAGENET_MEAN, IMAGENET_STD)
    right, below = -width % DIVISOR, -height % DIVISOR
    mask = torch.ones(1, height, width, dtype=torch.long)
    return functional.pad(normal, (0, right, 0, below)), functional.pad(mask, (0, right, 0, below))


class Colors:
    """Names the colours of objects by CLIP, each cut out along its mask, on grey."""

    def __init__(self, clip: Clip, device: torch.device) -> None:
        self._clip, self._device = clip, device
        self._classifiers: dict[str, Tensor] = {}

    @torch.no_grad()
    def of(self, image: Image.Image, objects: Sequence[Detection]) -> list[str]:
        """The colour of each of some objects of one class."""
        pixels = torch.stack([self._clip.prepare(cut_out(image, o)) for o in objects]).to(self._device)
        pictures = functional.normalize(self._clip.features(pixels), dim=1)
        return [COLORS[i] for i in (pictures @ self._classifier(objects[0].name).T).argmax(dim=1).tolist()]

    def _classifier(self, name: str) -> Tensor:
        """[len(COLORS), D]: for each colour the mean direction of GenEval's three wordings."""
        if name not in self._classifiers:
            wordings = ("a photo of a {c} {n}", "a photo of a {c}-colored {n}", "a photo of a {c} object")
            texts = [w.format(c=c, n=name) for c in COLORS for w in wordings]
            each = functional.normalize(self._clip.text_features(texts), dim=1).view(len(COLORS), len(wordings), -1)
            self._classifiers[name] = functional.normalize(each.mean(dim=1), dim=1)
        return self._classifiers[name]


def cut_out(image: Image.Image, found: Detection) -> Image.Image:
    """The object in its box, grey where its mask is not."""
    if found.mask is not None:
        image = Image.composite(image, Image.new("RGB", image.size, BLANK), Image.fromarray(found.mask))
    left, top, right, bottom = (round(v) for v in found.box)
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
