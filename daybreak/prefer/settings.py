"""What `daybreak prefer` is told; RUN/prefer.yaml holds it. Needs no torch: a mistake is told at once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from daybreak.config import ConfigError
from daybreak.config.bounds import Bounds, Count, Flag, Natural, NotNegative, Positive
from daybreak.config.fields import Checked
from daybreak.config.files import load_settings, save_settings
from daybreak.config.quantities import time_in
from daybreak.evaluate.measures import LEAST_FRECHET
from daybreak.run_folder import PREFERRING_FILE

Question = Literal["overall", "prompt", "realism"]
ONLINE = ("draw_steps", "stochastic", "noise", "clip", "kl", "guidance")
"""What belongs to --online alone."""


@dataclass(frozen=True)
class PreferSettings(Checked):
    """A run that learns preferences. Raises ConfigError, naming the flag, for what is out of range or does not go
    together."""

    run: Annotated[str, Flag("RUN")] = ""
    """Model that learns: a run, or scenes (the model in the box), or a model of diffusers."""
    votes: str | None = None
    """Blind comparison of RUN's pictures whose votes say which of two is better."""
    question: Question = "overall"
    """Question of the comparison whose votes count."""
    pairs: str | None = None
    """Folder of pairs as Pick-a-Pic has them: Parquet files with jpg_0, jpg_1, label_0, label_1 and caption."""
    judge: str | None = None
    """What scores pictures that RUN draws: scenes, geneval:FILE, clipscore, a reward model's folder, or a command."""
    check: str | None = None
    """Another judge, which is not learnt from: whether it agrees; none: scenes where RUN draws that world, else
    clipscore where its network is on this machine, and in no case --judge itself."""
    reference: str | None = None
    """Real pictures for the report's FID, a folder or shards; none: those that RUN was trained on."""
    count: Annotated[int, Bounds(least=LEAST_FRECHET)] = 400
    """Pictures that the report's FID, on scenes its Fréchet distance, is of, drawn before and after."""
    weights: tuple[str, ...] = ()
    """NAME=FILE, FOLDER or hub id of the judges' networks, in place of a download."""
    captions: str | None = None
    """File of prompts, one a line, to draw and to measure with; none: captions of the training pictures."""
    expand: str | None = None
    """Who writes out what prompts leave open, as daybreak sample has it; `none`: they are drawn, and learnt, as they
    stand; default: as the model has it."""
    rounds: Count = 4
    """--judge: times that pictures are drawn anew, with what was learnt so far."""
    prompts: Count = 96
    """--judge: prompts in a round, captions of the training pictures."""
    pictures: Annotated[int, Bounds(least=2)] = 4
    """--judge: pictures of a prompt, of which the best and the worst make a pair; --online learns from all."""
    online: bool = False
    """--judge: learn from pictures while they are drawn (Flow-GRPO), in place of pairs, round by round."""
    draw_steps: Count = 8
    """--online: steps of the sampler for pictures that are learnt from."""
    stochastic: Count = 2
    """--online: how many of these steps draw noise, and are what is learnt; as many updates share the pictures."""
    noise: Positive = 0.7
    """--online: how much noise such a step draws, Flow-GRPO's a."""
    clip: Positive = 1e-5
    """--online: by how much the likelihood of a step may change for pictures that were drawn before."""
    kl: NotNegative = 0.04
    """--online: weight of the distance to the reference."""
    guidance: NotNegative | None = None
    """--online: guidance by text of the pictures that are learnt from; none: as RUN draws."""
    held_out: Annotated[int, Bounds(least=2)] = 48
    """Prompts that are not learnt from, to measure with."""
    beta: Positive = 2000.0
    """How much less the model must err than the reference to be sure of a pair: larger stays nearer to it."""
    method: Literal["full", "text", "lora"] = "full"
    """What is trained: the whole network; of our own models, what of it reads text; or a LoRA."""
    rank: Count = 16
    """Rank of the LoRA."""
    lr: Positive | None = None
    """Learning rate; none: a fiftieth of what RUN was trained with, or three tenths for --online --method text; of a
    model of diffusers 1e-6, of a LoRA 1e-4."""
    batch: Count = 16
    """Pairs a step; --online: prompts."""
    steps: Count = 100
    """Steps of the run, all rounds together."""
    minutes: Positive | None = None
    """Ends training after this many minutes, in place of --steps; drawing and judging are not counted."""
    deadline: Annotated[float | None, Bounds(above=0), time_in("h")] = None
    """Time until everything is done, such as 20min, in place of --steps."""
    seed: Natural = 0
    """Of prompts, noise and the order of pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [flag for flag, value in self.sources.items() if value is not None]
        if self.run and len(given) != 1:
            raise ConfigError(
                f"say what is preferred, by one of {', '.join(self.sources)}"
                + (f"; {' and '.join(given)} are given" if given else "")
            )
        for flag, name in (
            ("--rounds", "rounds"),
            ("--prompts", "prompts"),
            ("--pictures", "pictures"),
            ("--expand", "expand"),
        ):
            if self.judge is None and self.differs(name):
                raise ConfigError(f"{flag} has no effect without --judge")
        if self.online:
            self._check_online()
        elif said := [n for n in ONLINE if self.differs(n)]:
            raise ConfigError(f"--{said[0].replace('_', '-')} has no effect without --online")
        if self.votes is None and self.differs("question"):
            raise ConfigError("--question has no effect without --votes")
        if self.method != "lora" and self.differs("rank"):
            raise ConfigError("--rank has no effect without --method lora")

    def _check_online(self) -> None:
        if self.judge is None:
            raise ConfigError("--online learns from a judge: say which, --judge scenes")
        if said := [n for n in ("rounds", "prompts", "beta") if self.differs(n)]:
            raise ConfigError(f"--{said[0]} has no effect with --online")
        if self.stochastic > self.draw_steps:
            raise ConfigError(f"--stochastic {self.stochastic}: --draw-steps {self.draw_steps} has fewer steps")

    @property
    def sources(self) -> dict[str, str | None]:
        """Where preferences may come from, by flag."""
        return {"--votes": self.votes, "--pairs": self.pairs, "--judge": self.judge}

    def differs(self, name: str) -> bool:
        """Whether a setting has another value than its default."""
        default = next(f.default for f in dataclasses.fields(self) if f.name == name)
        return bool(getattr(self, name) != default)


def save(settings: PreferSettings, run: Path) -> None:
    """Writes RUN/prefer.yaml."""
    save_settings(settings, run / PREFERRING_FILE)


def load(run: Path) -> PreferSettings:
    """The settings of a run folder; ConfigError where it holds none, or damaged ones."""
    return load_settings(PreferSettings, run / PREFERRING_FILE, "daybreak prefer")
