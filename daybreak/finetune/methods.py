"""What is trained: the whole network, adapters on it (LoRA, DoRA, LoHa, LoKr), or the embedding of a new word."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from daybreak.config import ConfigError
from daybreak.evaluate.adapter_option import find_adapter
from daybreak.finetune.adapter_reading import read
from daybreak.finetune.adapters import Adapters, adapted, inject, kind_of_adapters, layer_names, put, targeted
from daybreak.finetune.families import Family
from daybreak.finetune.settings import FinetuneSettings
from daybreak.parallel import local

TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""Layers of a CLIP text model that LoRA adapts."""


@dataclass
class Trained:
    """parameters: by name, first the part ("unet.", "text_encoder.", "token."); networks: the parts in training mode.

    words: of textual inversion, the grown embeddings by tokenizer.
    """

    parameters: dict[str, nn.Parameter]
    networks: list[nn.Module]
    words: dict[str, GrownEmbedding] = field(default_factory=dict)

    @property
    def text(self) -> bool:
        """Whether what captions become changes with training."""
        return any(not name.startswith(("unet.", "transformer.")) for name in self.parameters)

    def count(self) -> int:
        """Numbers that are trained."""
        return sum(p.numel() for p in self.parameters.values())


class GrownEmbedding(nn.Module):
    """A token embedding with further rows, which alone are trained; the known ones cannot move."""

    def __init__(self, known: nn.Embedding, new: Tensor) -> None:
        super().__init__()
        self.known = known.requires_grad_(False)
        self.new = nn.Parameter(new.detach().float().clone())

    @property
    def weight(self) -> Tensor:
        """All rows [V + new, C]."""
        return torch.cat([self.known.weight, self.new.to(self.known.weight.dtype)])

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [...] -> [..., C]."""
        return functional.embedding(ids, self.weight)


def make_trainable(family: Family, settings: FinetuneSettings) -> Trained:
    """Prepares the base for the method. Raises ConfigError where the base or the settings do not allow it."""
    pipeline = family.pipeline
    for part in family.parts():
        part.eval().requires_grad_(False)
    if (settings.train_text_encoder or settings.token) and not family.trains_text:
        flag = "--token" if settings.token else "--train-text-encoder"
        raise ConfigError(f"{flag} is for Stable Diffusion 1, 2 and XL; {settings.base} is a {type(pipeline).__name__}")
    if settings.token is not None:
        words = _grow(family, settings)
        return Trained({f"token.{name}": e.new for name, e in words.items()}, list(family.encoders.values()), words)
    parts = {family.denoiser: family.network}
    if settings.train_text_encoder:
        parts |= family.encoders
    begun = _begun(family, parts, settings) if settings.lora is not None else {}
    for name, network in parts.items():
        if name in begun:
            put(network, begun[name], f"--lora {settings.lora}")
            for _, layer in adapted(network):
                for attribute in layer.adapter_layer_names:
                    getattr(layer, attribute).requires_grad_(True)
            network.train()
        elif settings.low_rank:
            add_adapter(network, targets_of(family, settings, name), settings)
        else:
            network.requires_grad_(True)
            network.train()
    parameters = {f"{part}.{n}": p for part, net in parts.items() for n, p in net.named_parameters() if p.requires_grad}
    for parameter in parameters.values():
        parameter.data = parameter.data.float()
    return Trained(parameters, list(parts.values()))


def resting(family: Family, settings: FinetuneSettings) -> list[nn.Module]:
    """The networks that take no part in a step: text encoders whose words are cached, and the autoencoder."""
    reads = settings.train_text_encoder or settings.token is not None or settings.shuffle_tags
    working = {id(family.network), *(id(encoder) for encoder in family.encoders.values() if reads)}
    return [part for part in family.parts() if id(part) not in working]


def _begun(family: Family, parts: dict[str, Any], settings: FinetuneSettings) -> dict[str, Adapters]:
    """The adapters of --lora by network. ConfigError where they are not all for what is trained."""
    assert settings.lora is not None
    path = find_adapter(settings.lora)
    found = read(path, {family.denoiser: family.network} | family.encoders)
    if found.left:
        key, reason = next(iter(found.left.items()))
        why = f"of {len(found.left)} tensors {key} {reason}"
        raise ConfigError(f"--lora {path} cannot be trained further on {settings.base}: {why}")
    for part, adapters in found.adapters.items():
        if part not in parts:
            raise ConfigError(f"--lora {path} adapts the {part} too: give --train-text-encoder")
        kind = kind_of_adapters(adapters)
        if kind != settings.method:
            way = f"give --method {kind}" if kind else "it can be drawn with, but not trained further"
            raise ConfigError(f"--lora {path} is no {settings.method}: {way}")
    if family.denoiser not in found.adapters:
        raise ConfigError(f"--lora {path} says nothing of the {family.denoiser}")
    return found.adapters


def targets_of(family: Family, settings: FinetuneSettings, part: str) -> tuple[str, ...]:
    """Ends of the names of the layers that LoRA adapts. ConfigError for one that no layer has."""
    if part != family.denoiser:
        return TEXT_TARGETS
    for target in settings.targets:
        if not targeted(family.network, [target]):
            names = layer_names(family.network)
            ends = sorted({".".join(n.split(".")[-2:]) if n[-1].isdigit() else n.split(".")[-1] for n in names})
            raise ConfigError(f"--target {target}: no such layer; there are {', '.join(ends)}")
    return settings.targets or family.targets


def add_adapter(network: nn.Module, targets: Sequence[str], settings: FinetuneSettings) -> None:
    """Puts adapters on the layers whose names end in `targets`, for training. ConfigError without peft.

    Through peft itself: transformers' own `add_adapter` refuses the newest peft that there is
    (findings/add_adapter_peft.sh).
    """
    assert settings.method in ("lora", "dora", "loha", "lokr")
    ranks = dict.fromkeys(targeted(network, targets), settings.rank)
    inject(network, settings.method, ranks, settings.alpha or settings.rank, f"--method {settings.method}")
    network.train()


def _grow(family: Family, settings: FinetuneSettings) -> dict[str, GrownEmbedding]:
    """Teaches the tokenizers the word, and the text encoders rows for it; {text encoder: its embedding}."""
    words = token_words(settings)
    result = {}
    for name, tokenizer_name in zip(family.text_encoders, family.tokenizers, strict=True):
        tokenizer, encoder = getattr(family.pipeline, tokenizer_name), getattr(family.pipeline, name)
        known = encoder.get_input_embeddings()
        start = known.weight.float().mean(dim=0)
        if settings.init_word is not None:
            ids = tokenizer.encode(settings.init_word, add_special_tokens=False)
            if not ids:
                raise ConfigError(f"--init-word {settings.init_word!r} means nothing to the base's tokenizer")
            start = known.weight[ids].float().mean(dim=0)
        if any(w in tokenizer.get_vocab() for w in words) or tokenizer.add_tokens(words) != len(words):
            raise ConfigError(f"--token {settings.token}: the base's tokenizer knows it already; choose another word")
        ids = tokenizer.convert_tokens_to_ids(words)
        if ids != list(range(len(known.weight), len(known.weight) + len(words))):
            raise ConfigError(f"{settings.base}: its {tokenizer_name} and {name} do not have the same vocabulary")
        noise = torch.randn(len(words), len(start), generator=torch.Generator().manual_seed(settings.seed))
        new = start + 0.01 * known.weight.float().std() * noise  # several vectors must not stay equal
        result[name] = GrownEmbedding(known, new)
        encoder.set_input_embeddings(result[name])
    return result


def token_words(settings: FinetuneSettings) -> list[str]:
    """The new word as tokens: "<x>", "<x>_1", ... as diffusers' `load_textual_inversion` names them."""
    assert settings.token is not None
    return [settings.token, *(f"{settings.token}_{i}" for i in range(1, settings.vectors))]


class Averages:
    """Averaged weights of what is trained, in float32: d average + (1 - d) trained, as in train/ema.py.

    At decay 0 there are none.
    """

    def __init__(self, trained: Trained, decay: float) -> None:
        self._trained, self._decay = trained, decay
        self.tensors = {k: p.detach().clone() for k, p in trained.parameters.items()} if decay else {}

    def to(self, device: torch.device) -> None:
        """Moves them where the networks are."""
        self.tensors = {k: t.to(device) for k, t in self.tensors.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After step number `step`, from 0; short runs forget where they began (d = (1 + step) / (10 + step))."""
        if not self._decay:
            return
        d = min(self._decay, (1 + step) / (10 + step))
        trained = [local(p.data) for p in self._trained.parameters.values()]
        torch._foreach_lerp_([local(t) for t in self.tensors.values()], trained, 1 - d)

    @contextmanager
    def in_place(self) -> Generator[None]:
        """Within, the networks have the averaged weights, and do not train."""
        with weights(self._trained, self.tensors):
            yield


@contextmanager
def weights(trained: Trained, tensors: dict[str, Tensor]) -> Generator[None]:
    """Within, the networks have these weights, do not train, and need no gradient."""
    own = {name: local(p.data) for name, p in trained.parameters.items()}
    kept = {name: tensor.clone() for name, tensor in own.items()}
    training = [n.training for n in trained.networks]
    for name, tensor in own.items():
        tensor.copy_(local(tensors[name]))
    torch.clear_autocast_cache()  # of the weights before, in another number format
    for network in trained.networks:
        network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for name, tensor in own.items():
            tensor.copy_(kept[name])
        torch.clear_autocast_cache()
        for network, was in zip(trained.networks, training, strict=True):
            network.train(was)
