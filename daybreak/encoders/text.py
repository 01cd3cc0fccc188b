"""Text encoders, and the embedded one: a small T5 encoder and a BPE tokenizer trained on the run's own captions.

It is trained together with the transformer, so that a run needs no download. A run keeps both in the form that
transformers' `from_pretrained` reads.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from daybreak.config import ConfigError, TextConfig
from daybreak.encoders.t5 import T5Encoder, T5Shape
from daybreak.encoders.tokenizer import CaptionTokenizer

log = logging.getLogger("daybreak")

GPU_LENGTHS = 64
"""On a GPU captions are padded to a multiple of this many tokens: few lengths, so few shapes to compile kernels for."""
CPU_LENGTHS = 8
"""The same on a CPU, where captions differ in length: of each length oneDNN makes kernels, and keeps 9 MiB of them."""


@dataclass(frozen=True)
class Words:
    """Text as the transformer reads it.

    text [B, L, text_width]: after its own convolutions; words [B, L, C]: the same embedded; pooled [B, C]: its mean for
    the time embedding, or None.
    """

    text: Tensor
    words: Tensor
    pooled: Tensor | None


class TextMemory:
    """What the transformer made of text: `words`, and each block's keys and values."""

    def __init__(self) -> None:
        self.words: Words | None = None
        self.keys_values: dict[int, tuple[Tensor, Tensor]] = {}


@dataclass(frozen=True)
class TextTokens:
    """Encoded captions: embeddings [B, L, C]; mask [B, L] bool, True where a token counts.

    padded: whether the mask hides anything. It is known where captions are tokenized, and asking the mask itself would
    make a GPU wait.
    memory: what the transformer made of these tokens, for when it reads them again (`remembered`); None: nothing.
    offsets: where each caption's tokens stand in it (first character, one past the last), where that was asked for; an
    end mark and padding have none, 0 and 0.
    """

    embeddings: Tensor
    mask: Tensor
    padded: bool = True
    memory: TextMemory | None = None
    offsets: list[list[tuple[int, int]]] | None = None

    def remembered(self) -> TextTokens:
        """The same tokens, of which the transformer keeps what it makes: for sampling, with weights that stay."""
        return replace(self, memory=TextMemory())

    def rows(self, rows: list[int]) -> TextTokens:
        """Some of the captions, in this order; one may come several times."""
        offsets = None if self.offsets is None else [self.offsets[i] for i in rows]
        return TextTokens(self.embeddings[rows], self.mask[rows], self.padded, offsets=offsets)

    @staticmethod
    def of(rows: list[Tensor]) -> TextTokens:
        """Captions' tokens [L_i, C], padded to the longest: float32, on the first one's device."""
        lengths = torch.tensor([len(row) for row in rows])
        longest = max(1, int(lengths.max()))
        embeddings = rows[0].new_zeros(len(rows), longest, rows[0].shape[1], dtype=torch.float32)
        for i, row in enumerate(rows):
            embeddings[i, : len(row)] = row
        mask = (torch.arange(longest) < lengths[:, None]).to(embeddings.device)
        return TextTokens(embeddings, mask, bool((lengths < longest).any()))

    @staticmethod
    def cat(parts: list[TextTokens]) -> TextTokens:
        """Rows of several, padded to the longest."""
        length = max(p.mask.shape[1] for p in parts)

        def pad(x: Tensor) -> Tensor:
            shape = (x.shape[0], length - x.shape[1], *x.shape[2:])
            return torch.cat([x, x.new_zeros(shape)], dim=1)

        padded = any(p.padded or p.mask.shape[1] < length for p in parts)
        return TextTokens(
            torch.cat([pad(p.embeddings) for p in parts]), torch.cat([pad(p.mask) for p in parts]), padded
        )


class TextEncoder(nn.Module):
    """Captions -> `TextTokens`. `width` is the tokens' width."""

    frozen = False
    """Whether it stays as it is while the model trains; a frozen one is not averaged and not saved with the run."""

    def __init__(self, tokenizer: CaptionTokenizer, network: T5Encoder, max_tokens: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.network = network
        self.max_tokens = max_tokens
        self.width, self.pad_id = network.config.d_model, tokenizer.pad_id
        self._warned = False

    @classmethod
    def create(cls, captions: list[str], config: TextConfig) -> TextEncoder:
        """A new encoder with random weights, its tokenizer trained on `captions`."""
        tokenizer = CaptionTokenizer.train(captions, config)
        shape = T5Shape(
            vocab_size=len(tokenizer),
            d_model=config.width,
            d_kv=config.width // config.heads,
            d_ff=2 * config.width,
            num_layers=config.depth,
            num_heads=config.heads,
            relative_attention_max_distance=max(64, config.max_tokens),
        )
        return cls(tokenizer, T5Encoder(shape), config.max_tokens)

    @classmethod
    def load(cls, folder: Path, weights: bool = True) -> TextEncoder:
        """An encoder that `save` wrote, or one of its shape with random weights.

        Raises ConfigError where it is damaged or missing.
        """
        place = folder / "text_encoder"
        try:
            tokenizer = CaptionTokenizer.load(folder / "tokenizer")
            network = T5Encoder.load(place) if weights else T5Encoder(T5Shape.load(place))
        except ConfigError:
            raise
        except Exception as e:  # the tokenizers library raises nothing more specific
            reason = " ".join(str(e).split())[:200]
            raise ConfigError(f"{folder}: its text encoder is damaged or missing: {reason}") from None
        return cls(tokenizer, network, tokenizer.longest)

    def save(self, folder: Path) -> None:
        """Writes `tokenizer/` and `text_encoder/` below `folder`, as transformers' `save_pretrained` does."""
        self.tokenizer.save(folder / "tokenizer")
        self.network.save(folder / "text_encoder")

    def tokens(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids [B, L] and mask [B, L] (bool), padded to the longest caption; longer than the limit is cut.

        On a GPU L is a multiple of `GPU_LENGTHS`, or the limit; on a CPU of `CPU_LENGTHS`, where there is any padding.

        The first caption that is cut is logged, with what was not read.
        """
        return self._read(captions, offsets=False)[:2]

    def words(self, caption: str) -> list[tuple[str, list[int]]]:
        """[(word, places of its tokens)] of what is read of a caption; words stand between spaces."""
        (where,) = self._encoded([caption], offsets=True)[1]
        spans = [(m.group(), m.end()) for m in re.finditer(r"\S+", caption)]
        found: list[tuple[str, list[int]]] = [(word, []) for word, _ in spans]
        for place, (start, end) in enumerate(where):
            # The space before a word is part of its first token, or a token before that.
            number = next((n for n, (_, last) in enumerate(spans) if start < last), None)
            if number is not None and start < end:
                found[number][1].append(place)
        return [(word, places) for word, places in found if places]

    def _read(self, captions: list[str], offsets: bool) -> tuple[Tensor, Tensor, list[list[tuple[int, int]]] | None]:
        """`tokens`, and where they stand, as `TextTokens.offsets`."""
        rows, where = self._encoded(captions, offsets)
        lengths = torch.tensor([len(row) for row in rows])
        length = int(lengths.max())
        if self.network.device.type == "cuda" or int(lengths.min()) < length:
            length = self.padded_length(length)
        ids = torch.tensor([row + [self.pad_id] * (length - len(row)) for row in rows], dtype=torch.long)
        mask = torch.arange(length) < lengths[:, None]
        if not self._warned:
            for row in (lengths >= self.max_tokens).nonzero().flatten().tolist():
                if (cut := self.cut_off(captions[row])) is not None:
                    self._warned = True
                    log.warning(
                        "a caption is longer than %d tokens; not read of it: …%s (said once; text.max_tokens sets it)",
                        self.max_tokens, cut,
                    )  # fmt: skip
                    break
        return ids, mask, [row + [(0, 0)] * (length - len(row)) for row in where] if offsets else None

    def padded_length(self, length: int) -> int:
        """The next of the few lengths that the device sees."""
        step = GPU_LENGTHS if self.network.device.type == "cuda" else CPU_LENGTHS
        return min(self.max_tokens, -(-length // step) * step)

    def _encoded(self, captions: list[str], offsets: bool) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
        """Tokens of each caption, and where they stand; none of the latter unless asked for."""
        encoded = self.tokenizer.encode(captions, self.max_tokens)
        return [one.ids for one in encoded], [one.offsets for one in encoded] if offsets else []

    def cut_off(self, caption: str) -> str | None:
        """The end of a caption that is longer than the limit and will not be read; None where all of it is."""
        (encoded,) = self.tokenizer.encode([caption])
        if len(encoded.ids) <= self.max_tokens:
            return None
        return self.tokenizer.decode(encoded.ids[self.max_tokens - 1 :])

    def forward(self, captions: list[str], offsets: bool = False) -> TextTokens:
        """B captions -> their tokens; offsets: with where they stand."""
        ids, mask, where = self._read(captions, offsets)
        padded = not bool(mask.all())
        device = self.network.device
        ids, mask = ids.to(device), mask.to(device)
        return TextTokens(self.network(ids, mask), mask, padded, offsets=where)


def open_text_encoder(
    config: TextConfig, captions: Callable[[], list[str]] | None = None, asked_by: str = "text.pretrained"
) -> TextEncoder:  # fmt: skip
    """The text encoder of a new run: the frozen one that `config` names, else the embedded one.

    `captions` gives the captions on which the embedded one's tokenizer is trained. Raises ConfigError where the frozen
    one, which the user named by `asked_by`, can't be loaded.
    """
    if config.pretrained is not None:
        from daybreak.encoders.pretrained_text import PretrainedTextEncoder  # here, since transformers takes seconds

        return PretrainedTextEncoder.open(config, asked_by)
    assert captions is not None
    return TextEncoder.create(captions(), config)
