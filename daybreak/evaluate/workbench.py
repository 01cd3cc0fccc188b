"""What metrics share: pictures, given or generated; networks; features. Each is made once, when first asked for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from daybreak import __version__
from daybreak.config import ConfigError
from daybreak.data.batch import Source
from daybreak.data.open import open_source
from daybreak.evaluate.features.extract import FeatureSet, extract, extract_cached
from daybreak.evaluate.features.networks import Clip, DinoV2, Inception, Network
from daybreak.evaluate.mosaic import Tile, save_mosaic
from daybreak.evaluate.pictures import PictureFolder, open_pictures, save_pictures, write_captions
from daybreak.evaluate.prompts import read_prompt_file, spread
from daybreak.evaluate.request import Request
from daybreak.evaluate.subjects import Opener, Subject
from daybreak.parallel import Ranks

CAPTIONS = 100_000
SHOWN = 24


class Workbench:
    """One subject on one device, and all that is made of it. `out`: the folder for whatever is written.

    open_subject: opens the baseline of metrics that have one.
    """

    def __init__(
        self, subject: Subject, request: Request, out: Path, device: torch.device, ranks: Ranks,
        tell: Callable[[str], None], open_subject: Opener | None = None,
    ) -> None:  # fmt: skip
        self.subject, self.request, self.out, self.device, self.ranks = subject, request, out, device, ranks
        self.tell = tell if ranks.first else lambda _: None
        self.open_subject = open_subject
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}
        self._networks: dict[str, Network] = {}
        self._features: dict[tuple[str, str], FeatureSet] = {}
        self._folders: dict[str, PictureFolder] = {}
        self._source: Source | None = None

    @property
    def on_scenes(self) -> bool:
        """Whether this is a run on the embedded world, which can render its own reference."""
        return self.subject.config is not None and self.subject.config.data.source == "scenes"

    def note(self, text: str) -> None:
        """What the report has to say beside the figures, once."""
        if text and text not in self.notes:
            self.notes.append(text)

    def clip(self) -> Clip:
        """The CLIP of CLIPScore and GenEval."""
        found = self.network("clip")
        assert isinstance(found, Clip)
        return found

    def network(self, name: str) -> Network:
        """A feature network by its name in METRICS."""
        if name not in self._networks:
            given = self.request.weights
            if name.startswith("inception"):
                file = Path(given["inception"]).expanduser() if "inception" in given else None
                found: Network = Inception(file, self.device, self.tell, name == "inception_classes")
            elif name == "dinov2":
                found = DinoV2(given.get(name), self.device)
            else:
                found = Clip(name, given.get(name), self.device)
            self._networks[name] = found
            self.note(found.note)
        return self._networks[name]

    def features(self, what: str, name: str) -> FeatureSet:
        """Features of "pictures" or "reference" by a network; those of the reference are kept for the next time."""
        if (what, name) not in self._features:
            folder, network = self.folder(what), self.network(name)
            make = extract_cached if what == "reference" else extract
            self._features[what, name] = make(folder, network, self.device, self.ranks)
        return self._features[what, name]

    def folder(self, what: str) -> PictureFolder:
        """ "pictures": given or generated; "reference": given, or scenes of their own for a run on scenes."""
        if what not in self._folders:
            if what == "pictures" and self.subject.pictures is not None:
                self._folders[what] = self.subject.pictures
            elif what == "pictures":
                self._folders[what] = self.draw(self.subject, "pictures", self.prompts())
            elif self.request.reference is not None:
                self._folders[what] = open_pictures(self.request.reference.expanduser(), "--reference")
            else:
                self._folders[what] = self._scenes_reference()
        return self._folders[what]

    def draw(self, subject: Subject, name: str, prompts: list[str]) -> PictureFolder:
        """Has pictures of `prompts` generated into the folder evaluation/NAME, each process its share."""
        drawer = subject.drawer
        assert drawer is not None
        folder = self.fresh(name)
        names = [f"{i:06d}.png" for i in range(len(prompts))]
        began = time.monotonic()
        chunks = [range(i, min(i + drawer.batch, len(prompts))) for i in range(0, len(prompts), drawer.batch)]
        for chunk in self.ranks.share(chunks):
            drawn = drawer.draw([prompts[i] for i in chunk], chunk[0])
            save_pictures(drawn, [folder / names[i] for i in chunk])
        self.ranks.gather(None)
        if self.ranks.first:
            write_captions(folder, names, prompts)
        self.ranks.gather(None)
        seconds = time.monotonic() - began
        self.seconds[f"drawing {name}"] = seconds
        self.tell(f"generated {len(prompts)} pictures, {len(prompts) / seconds:.1f} a second: {folder}")
        return open_pictures(folder, name)

    def fresh(self, name: str) -> Path:
        """The folder evaluation/NAME, emptied of an earlier evaluation's pictures."""
        folder = self.out / "evaluation" / name
        if self.ranks.first:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self.ranks.gather(None)
        return folder

    def prompts(self) -> list[str]:
        """What the pictures for comparison are generated from, `count` of them."""
        return spread(self.known_prompts(), self.request.count, self.request.drawing.seed or 0)

    def known_prompts(self) -> list[str]:
        """Of --prompts, else the reference's captions, else the captions that the run was trained on."""
        if self.request.prompts is not None:
            return read_prompt_file(self.request.prompts.expanduser())
        if self.request.reference is not None:
            captions = [i.caption for i in self.folder("reference").captioned()]
            if captions:
                return captions
        if self.subject.config is not None:
            return list(dict.fromkeys(self._data().some_captions(CAPTIONS)))
        raise ConfigError("what should be generated? Give --prompts FILE, or a --reference FOLDER with captions")

    def _data(self) -> Source:
        if self._source is None:
            assert self.subject.config is not None
            self._source = open_source(self.subject.config)
        return self._source

    def _scenes_reference(self) -> PictureFolder:
        """True pictures of the embedded world that training has not seen: far beyond where any run gets."""
        folder, source, count = self.fresh("reference"), self._data(), self.request.count
        if self.ranks.first:
            names = [f"{i:06d}.png" for i in range(count)]
            batch = source.batch(10**9, count)
            save_pictures(batch.images, [folder / n for n in names])
            write_captions(folder, names, batch.captions)
        self.ranks.gather(None)
        return open_pictures(folder, "reference")

    def show_pictures(self) -> None:
        """Writes pictures.png, the first ones, where there are any."""
        if "pictures" in self._folders and self.ranks.first:
            tiles = [Tile(i.path, i.caption) for i in self._folders["pictures"].items[:SHOWN]]
            save_mosaic(tiles, self.out / "pictures.png")

    def about(self) -> dict[str, Any]:
        """What a reader of the figures has to know: subject, conditions, time, what was skipped."""
        about: dict[str, Any] = {
            "subject": self.subject.name,
            **self.subject.facts,
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU",
            "processes": self.ranks.world,
            "daybreak": __version__,
            "seconds": {k: round(v, 1) for k, v in self.seconds.items()},
        }
        if self.device.type == "cuda":
            about["peak GPU memory, GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
        for what, folder in self._folders.items():
            about[what] = f"{folder.path}: {len(folder):,} pictures"
            if folder.skipped:
                about[f"{what} skipped"] = [f"{s.path}: {s.reason}" for s in folder.skipped]
        if self.notes:
            about["notes"] = self.notes
        return about
