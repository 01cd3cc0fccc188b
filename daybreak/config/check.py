"""Settings that are out of their range or do not go together are refused before anything starts."""

from __future__ import annotations

from daybreak.config.errors import ConfigError
from daybreak.config.settings import Config
from daybreak.config.stages import at_stage


def check(config: Config) -> Config:
    """The same config, or a ConfigError that names the first setting out of its range."""
    c = config
    at_least = [
        ("data.resolution", c.data.resolution, 8),
        ("data.workers", c.data.workers, 0),
        ("text.vocabulary", c.text.vocabulary, 259),
        ("text.width", c.text.width, 1),
        ("text.depth", c.text.depth, 0),
        ("text.heads", c.text.heads, 1),
        ("text.max_tokens", c.text.max_tokens, 2),
        ("model.width", c.model.width, 4),
        ("model.depth", c.model.depth, 1),
        ("model.heads", c.model.heads, 1),
        ("model.patch", c.model.patch, 1),
        ("model.bottleneck", c.model.bottleneck, 1),
        ("model.text_blocks", c.model.text_blocks, 0),
        ("model.text_convolutions", c.model.text_convolutions, 0),
        *(("model.convolutions", channels, 1) for channels in c.model.convolutions),
        ("alignment.projector_width", c.alignment.projector_width, 1),
        ("alignment.resolution", c.alignment.resolution, 1),
        ("perceptual.dino_resolution", c.perceptual.dino_resolution, 1),
        ("train.batch", c.train.batch, 1),
        ("train.seed", c.train.seed, 0),
        ("train.keep", c.train.keep, 1),
        ("train.watch_every", c.train.watch_every, 1),
        ("optim.warmup_steps", c.optim.warmup_steps, 0),
        ("sample.steps", c.sample.steps, 1),
        ("sample.batch", c.sample.batch, 1),
        ("distill.steps", c.distill.steps, 1),
        ("distill.substeps", c.distill.substeps, 1),
        ("evaluate.seed", c.evaluate.seed, 0),
        ("evaluate.prompts_per_task", c.evaluate.prompts_per_task, 1),
        ("evaluate.held_out_prompts", c.evaluate.held_out_prompts, 1),
        ("evaluate.metrics_every", c.evaluate.metrics_every, 1),
        ("evaluate.metrics_count", c.evaluate.metrics_count, 2),
    ]
    for name, value, least in at_least:
        if value is not None and value < least:
            raise ConfigError(f"{name} is {value}; it must be at least {least}")
    above_zero = [
        ("data.cache_gb", c.data.cache_gb),
        ("diffusion.shift", c.diffusion.shift),
        ("diffusion.floor", c.diffusion.floor),
        ("diffusion.noise_scale", c.diffusion.noise_scale),
        ("model.mlp_ratio", c.model.mlp_ratio),
        ("model.rope_theta", c.model.rope_theta),
        ("optim.muon_lr", c.optim.muon_lr),
        ("optim.adam_lr", c.optim.adam_lr),
        ("optim.adam_eps", c.optim.adam_eps),
        ("optim.clip_norm", c.optim.clip_norm),
        ("train.save_minutes", c.train.save_minutes),
        ("train.stall_minutes", c.train.stall_minutes),
    ]
    for name, number in above_zero:
        if not number > 0:
            raise ConfigError(f"{name} is {number:g}; it must be above 0")
    not_negative = [
        ("optim.weight_decay", c.optim.weight_decay),
        ("sample.guidance", c.sample.guidance),
        ("distill.guidance", c.distill.guidance),
    ]
    for name, number in not_negative:
        if number < 0:
            raise ConfigError(f"{name} is {number:g}; it must be at least 0")
    below_one = [("optim.muon_momentum", c.optim.muon_momentum), *(("optim.adam_betas", b) for b in c.optim.adam_betas)]
    for name, number in below_one:
        if not 0 <= number < 1:
            raise ConfigError(f"{name} is {number:g}; it must be at least 0 and below 1")
    shares = [
        ("diffusion.p_uncond", c.diffusion.p_uncond),
        ("optim.decay_share", c.optim.decay_share),
        ("alignment.until", c.alignment.until),
        ("data.dense", c.data.dense),
        ("train.ema", c.train.ema),
        ("sample.guidance_from", c.sample.guidance_from),
        ("sample.guidance_to", c.sample.guidance_to),
    ]
    for name, number in shares:
        if not 0 <= number <= 1:
            raise ConfigError(f"{name} is {number:g}; it must lie between 0 and 1")
    if c.sample.guidance_from > c.sample.guidance_to:
        raise ConfigError(
            f"sample.guidance_from is {c.sample.guidance_from:g}, above sample.guidance_to {c.sample.guidance_to:g}: "
            "guidance would never act"
        )
    if not all(0 <= part <= 255 for part in c.data.background):
        raise ConfigError("data.background is a colour of three numbers from 0 to 255, such as 255,255,255")
    if not 0 < c.train.sample_every <= 1:
        raise ConfigError(f"train.sample_every is {c.train.sample_every:g}; it must be above 0 and at most 1")
    if not 0 <= c.data.bad_share < 1:
        raise ConfigError(f"data.bad_share is {c.data.bad_share:g}; it must be at least 0 and below 1")
    if not c.data.max_ratio >= 1:
        raise ConfigError(f"data.max_ratio is {c.data.max_ratio:g}; it is width over height and at least 1")
    if c.data.weights and (len(c.data.weights) != len(c.data.shards) or not min(c.data.weights) > 0):
        raise ConfigError(f"data.weights needs one share above 0 for each of the {len(c.data.shards)} sets of shards")
    if len(c.data.task_weights) != 6 or min(c.data.task_weights) < 0 or sum(c.data.task_weights) <= 0:
        raise ConfigError("data.task_weights needs six shares, none negative and not all zero")
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
    limits = [("train.steps", c.train.steps), ("train.minutes", c.train.minutes), ("budget.hours", b.hours),
              ("budget.usd", b.usd), ("budget.price", b.price), ("budget.gpus", b.gpus),
              ("train.microbatch", c.train.microbatch), ("train.save_steps", c.train.save_steps),
              ("train.sample_steps", c.train.sample_steps), ("train.shard", c.train.shard)]  # fmt: skip
    for name, value in limits:
        if value is not None and not value > 0:
            raise ConfigError(f"{name} is {value:g}; it must be above 0")
    if b.usd is not None and b.price is None:
        raise ConfigError("a budget in USD needs the price of a GPU-hour: --price 2.0")
    if not c.train.explode > 1:
        raise ConfigError(f"train.explode is {c.train.explode:g}; it must be above 1")


def _check_parts(c: Config) -> None:
    """Refuses what does not go together among routing, alignment, perceptual losses and the network's form."""
    r, a, p, m = c.routing, c.alignment, c.perceptual, c.model
    end = m.depth - 1 if r.end is None else r.end
    if not 0 < r.keep <= 1:
        raise ConfigError(f"routing.keep is {r.keep:g}; it must be above 0 and at most 1")
    if not 0 <= r.path_drop <= 1:
        raise ConfigError(f"routing.path_drop is {r.path_drop:g}; it must lie between 0 and 1")
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
    for name, weight in (("alignment.weight", a.weight), ("grounding.weight", c.grounding.weight),
                         ("perceptual.lpips", p.lpips), ("perceptual.dino", p.dino),
                         ("diffusion.contrastive", c.diffusion.contrastive)):  # fmt: skip
        if weight < 0:
            raise ConfigError(f"{name} is {weight:g}; a weight must not be negative")
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
    if not 0 < p.lpips_scale <= 1:
        raise ConfigError(f"perceptual.lpips_scale is {p.lpips_scale:g}; it must be above 0 and at most 1")
    if not 0 < p.t_max <= 1:
        raise ConfigError(f"perceptual.t_max is {p.t_max:g}; it must be above 0 and at most 1")
    if m.layout == "joint" and m.modulation != "none":
        raise ConfigError("model.layout=joint has no modulation by the time: set model.modulation=none")
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
    if c.train.ema_every < 1 or c.train.posthoc_snapshots < 1:
        raise ConfigError("train.ema_every and train.posthoc_snapshots must be at least 1")
    if any(not 0.01 <= length <= 0.25 for length in c.train.posthoc_ema):
        raise ConfigError("train.posthoc_ema: relative lengths lie between 0.01 and 0.25, such as 0.05,0.1")
    if c.diffusion.contrastive and min(c.train.batch, c.train.microbatch or c.train.batch) < 2:
        raise ConfigError("diffusion.contrastive compares pictures of a step: train.batch and train.microbatch must be "
                          "at least 2")  # fmt: skip
    if not c.diffusion.logit_std > 0:
        raise ConfigError(f"diffusion.logit_std is {c.diffusion.logit_std:g}; it must be above 0")
