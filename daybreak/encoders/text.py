"""Text encoders, and the embedded one: a small T5 encoder and a BPE tokenizer trained on the run's own captions.

It is trained together with the transformer, so that a run needs no download. Both are real `transformers` objects, and
a run keeps them in the form that `from_pretrained` reads.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel
from transformers.utils import logging as transformers_logging

from daybreak.config import ConfigError, TextConfig

transformers_logging.disable_progress_bar()  # a bar for each checkpoint would break the live display

log = logging.getLogger("daybreak")

GPU_LENGTHS = 64
"""On a GPU captions are padded to a multiple of so many tokens: few lengths, so few shapes to compile kernels for."""

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


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


def train_tokenizer(captions: list[str], config: TextConfig) -> PreTrainedTokenizerFast:
    """A lower-casing, byte-level BPE tokenizer of at most `config.vocabulary` entries, trained on `captions`.

    Byte-level: any string has tokens, also in scripts and signs that the captions never show. Every caption ends in
    </s>, so the empty caption has one token. The same captions give the same tokenizer.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=[PAD, END, UNKNOWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, end)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=config.max_tokens,
        padding_side="right",
        truncation_side="right",
    )


class TextEncoder(nn.Module):
    """Captions -> `TextTokens`. `width` is the tokens' width."""

    frozen = False
    """Whether it stays as it is while the model trains; a frozen one is not averaged and not saved with the run."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, network: T5EncoderModel, max_tokens: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.network = network
        self.max_tokens = max_tokens
        self.width = network.config.d_model
        self._warned = False

    @classmethod
    def create(cls, captions: list[str], config: TextConfig) -> TextEncoder:
        """A new encoder with random weights, its tokenizer trained on `captions`."""
        tokenizer = train_tokenizer(captions, config)
        network = T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizer),
                d_model=config.width,
                d_kv=config.width // config.heads,
                d_ff=2 * config.width,
                num_layers=config.depth,
                num_heads=config.heads,
                feed_forward_proj="gated-silu",
                dropout_rate=0.0,
                relative_attention_num_buckets=32,
                relative_attention_max_distance=max(64, config.max_tokens),
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                use_cache=False,
            )
        )
        return cls(tokenizer, network, config.max_tokens)

    @classmethod
    def load(cls, folder: Path) -> TextEncoder:
        """An encoder that `save` wrote. Raises ConfigError where it is damaged or missing."""
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
            network = T5EncoderModel.from_pretrained(folder / "text_encoder", use_safetensors=True)
        except Exception as e:  # the tokenizers library raises nothing more specific
            reason = " ".join(str(e).split())[:200]
            raise ConfigError(f"{folder}: its text encoder is damaged or missing: {reason}") from None
        return cls(tokenizer, network, tokenizer.model_max_length)

    def save(self, folder: Path) -> None:
        """Writes `tokenizer/` and `text_encoder/` below `folder`, as `save_pretrained` does."""
        self.tokenizer.save_pretrained(folder / "tokenizer")
        self.network.save_pretrained(folder / "text_encoder")

    def tokens(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids [B, L] and mask [B, L] (bool), padded to the longest caption; longer than the limit is cut.

        On a GPU L is a multiple of `GPU_LENGTHS`, or the limit.

        The first caption that is cut is logged, with what was not read.
        """
        return self._read(captions, offsets=False)[:2]

    def _read(self, captions: list[str], offsets: bool) -> tuple[Tensor, Tensor, list[list[tuple[int, int]]] | None]:
        """`tokens`, and where they stand, as `TextTokens.offsets`."""
        encoded = self.tokenizer(
            captions, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt",
            return_offsets_mapping=offsets,
        )  # fmt: skip
        ids, mask = encoded["input_ids"], encoded["attention_mask"].bool()
        if self.network.device.type == "cuda":
            ids, mask = self._to_few_lengths(ids, mask)
        if not self._warned:
            for row in (mask.sum(1) >= self.max_tokens).nonzero().flatten().tolist():
                if (cut := self.cut_off(captions[row])) is not None:
                    self._warned = True
                    log.warning(
                        "a caption is longer than %d tokens; not read of it: …%s (said once; text.max_tokens sets it)",
                        self.max_tokens, cut,
                    )  # fmt: skip
                    break
        return ids, mask, encoded["offset_mapping"].tolist() if offsets else None

    def _to_few_lengths(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """ids and mask [B, L], padded to the next of the lengths that a GPU sees."""
        length = min(self.max_tokens, -(-ids.shape[1] // GPU_LENGTHS) * GPU_LENGTHS)
        more = max(0, length - ids.shape[1])
        return F.pad(ids, (0, more), value=self.tokenizer.pad_token_id), F.pad(mask, (0, more), value=False)

    def cut_off(self, caption: str) -> str | None:
        """The end of a caption that is longer than the limit and will not be read; None where all of it is."""
        ids = self.tokenizer(caption)["input_ids"]
        if len(ids) <= self.max_tokens:
            return None
        special = self.tokenizer.num_special_tokens_to_add()
        return str(self.tokenizer.decode(ids[self.max_tokens - special :], skip_special_tokens=True))

    def forward(self, captions: list[str], offsets: bool = False) -> TextTokens:
        """B captions -> their tokens; offsets: with where they stand."""
        ids, mask, where = self._read(captions, offsets)
        padded = not bool(mask.all())
        device = self.network.device
        ids, mask = ids.to(device), mask.to(device)
        hidden = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        return TextTokens(hidden, mask, padded, offsets=where)
