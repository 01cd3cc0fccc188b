"""Settings that are out of their range or do not go together are refused before anything starts."""

from __future__ import annotations

from daybreak.config.errors import ConfigError
from daybreak.config.fields import check_fields
from daybreak.config.overrides import sections
from daybreak.config.settings import Config
from daybreak.config.stages import at_stage


def check(config: Config) -> Config:
    """The same config, or a ConfigError that names the first setting out of its range."""
    c = config
    for section in sections():
        check_fields(getattr(c, section), lambda name, section=section: f"{section}.{name}")
    if c.sample.guidance_from > c.sample.guidance_to:
        raise ConfigError(
            f"sample.guidance_from is {c.sample.guidance_from:g}, above sample.guidance_to {c.sample.guidance_to:g}: "
            "guidance would never act"
        )
    if c.data.weights and len(c.data.weights) != len(c.data.shards):
        raise ConfigError(f"data.weights needs one share for each of the {len(c.data.shards)} sets of shards")
    if len(c.data.task_weights) != 6 or sum(c.data.task_weights) == 0:
        raise ConfigError("data.task_weights needs six shares, and not all of them zero")
    if c.data.resolution % c.model.patch:
        near = max(1, round(c.data.resolution / c.model.patch)) * c.model.patch
        raise ConfigError(
            f"data.resolution {c.data.resolution} does not divide into patches of model.patch {c.model.patch} px; "
            f"{near} would"
        )
    if int(c.model.mlp_ratio * c.model.width) < 1:
        raise ConfigError(
            f"model.mlp_ratio {c.model.mlp_ratio:g} of model.width {c.model.width} leaves no hidden width"
        )
    if c.model.width % c.model.heads or (c.model.width // c.model.heads) % 4:
        raise ConfigError(
            f"model.width {c.model.width} over model.heads {c.model.heads} must give heads of a multiple of 4 channels"
        )
    if c.text.width % c.text.heads:
        raise ConfigError(f"text.width {c.text.width} does not divide by text.heads {c.text.heads}")
    _check_end(c)
    if c.data.source == "folder" and not c.data.folder:
        raise ConfigError("this recipe trains on your own pictures: say where they are with --data FOLDER")
    if c.data.source == "shards" and not c.data.shards:
        raise ConfigError("data.source is shards, and data.shards names none: say where they are with --data SHARDS")
    if c.data.embeddings is not None and (c.data.source != "shards" or c.text.pretrained is None):
        raise ConfigError(
            "data.embeddings holds a frozen encoder's features of shards: it needs data.source=shards (--data SHARDS) "
            "and text.pretrained, the encoder that made them"
        )
    _check_parts(c)
    if c.stages:
        total = sum(s.share for s in c.stages)
        if min(s.share for s in c.stages) <= 0 or abs(total - 1) > 1e-3:
            raise ConfigError(f"the shares of the stages add up to {total:g}; each must be above 0, all together 1")
        for i in range(len(c.stages)):
            try:
                check(at_stage(c, i))
            except ConfigError as e:
                raise ConfigError(f"stage {i}: {e}") from None
    return config


def _check_end(c: Config) -> None:
    """Refuses a run that would never end, or whose budget cannot be told in hours."""
    b = c.budget
    if c.train.steps is None and c.train.minutes is None and b.hours is None and b.usd is None:
        raise ConfigError("the run has no end: set train.steps, train.minutes, --deadline or --budget")
    if b.usd is not None and b.price is None:
        raise ConfigError("a budget in USD needs the price of a GPU-hour: --price 2.0")


def _check_parts(c: Config) -> None:
    """Refuses what does not go together among routing, alignment, perceptual losses and the network's form."""
    r, a, p, m = c.routing, c.alignment, c.perceptual, c.model
    end = m.depth - 1 if r.end is None else r.end
    if r.path_drop and r.method != "sprint":
        raise ConfigError("routing.path_drop is SPRINT's: set routing.method=sprint, or routing.path_drop=0")
    if (r.keep < 1 or r.method == "sprint") and not 0 <= r.start < end <= m.depth:
        raise ConfigError(
            f"tokens leave after routing.start {r.start} blocks and return after routing.end {end}, of "
            f"model.depth {m.depth}: the start must come before the end, and the end not after the last block"
        )
    if c.sample.guidance_kind != "classifier_free" and r.keep == 1:
        raise ConfigError(f"sample.guidance_kind={c.sample.guidance_kind} compares with a routed prediction: set "
                          "routing.keep below 1, or guidance_kind=classifier_free")  # fmt: skip
    if a.weight and not 1 <= a.layer <= m.depth:
        raise ConfigError(f"alignment.layer is {a.layer}; the model has blocks 1 to {m.depth} (model.depth)")
    if a.weight and a.projector == "conv" and r.keep < 1 and r.start < a.layer <= end:
        raise ConfigError(
            f"alignment.projector=conv needs all tokens, but after block {a.layer} (alignment.layer) some are routed "
            f"away: set alignment.layer to at most {r.start}, or alignment.projector=mlp"
        )
    if (p.lpips or p.dino) and m.predicts == "velocity":
        raise ConfigError(
            "perceptual losses compare clean pictures, which model.predicts=velocity does not give at high noise: set "
            "model.predicts=x0, or perceptual.lpips=0 and perceptual.dino=0"
        )
    if m.convolutions:
        if m.patch != 2 ** len(m.convolutions):
            raise ConfigError(
                f"model.convolutions halve the side {len(m.convolutions)} times, so model.patch must be "
                f"{2 ** len(m.convolutions)}, not {m.patch}"
            )
        if m.bottleneck or m.start == "identity" or m.modulation == "none":
            raise ConfigError(
                "model.convolutions take the place of patches and are modulated by the time: they go with "
                "model.bottleneck=none, model.start=grey and model.modulation=block or shared"
            )
    if m.detail and m.convolutions:
        raise ConfigError(
            "model.detail adds to what patches draw, and model.convolutions have their own way back to pixels: set "
            "model.detail=0, or model.convolutions=none"
        )
    if m.pooled_text and m.modulation == "none":
        raise ConfigError("model.pooled_text goes through the time's modulation: set model.modulation=block")
    if m.grounding and m.layout == "joint":
        raise ConfigError("model.grounding guides how pictures attend to text: set model.layout=text_kv")
    if c.grounding.weight and not m.grounding:
        raise ConfigError("grounding.weight draws words to their places: set model.grounding=true, or weight 0")
    if c.data.source != "scenes" and (c.grounding.weight or c.data.dense or c.sample.expand == "scenes"):
        wrong = "grounding.weight" if c.grounding.weight else "data.dense" if c.data.dense else "sample.expand=scenes"
        raise ConfigError(f"{wrong} needs pictures whose objects are known, as those of data.source=scenes are")
    if m.size_conditioning and m.modulation == "none":
        raise ConfigError("model.size_conditioning goes through the time's modulation: set model.modulation=block")
    if c.diffusion.contrastive and min(c.train.batch, c.train.microbatch or c.train.batch) < 2:
        raise ConfigError("diffusion.contrastive compares pictures of a step: train.batch and train.microbatch must be "
                          "at least 2")  # fmt: skip
