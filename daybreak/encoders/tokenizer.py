"""The tokenizer of the embedded text encoder, trained on a run's captions, in files that transformers reads."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from tokenizers import Encoding, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from daybreak.config import TextConfig

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"


class CaptionTokenizer:
    """Captions to tokens, of a `tokenizers.Tokenizer`. longest: how many tokens the encoder reads of a caption."""

    def __init__(self, tokenizer: Tokenizer, longest: int, pad: str = PAD) -> None:
        self.tokenizer, self.longest = tokenizer, longest
        self.pad_id = tokenizer.token_to_id(pad) or 0
        tokenizer.no_padding()
        tokenizer.no_truncation()

    @classmethod
    def train(cls, captions: list[str], config: TextConfig) -> CaptionTokenizer:
        """A lower-casing, byte-level BPE tokenizer of at most `config.vocabulary` entries, trained on `captions`.

        Byte-level: any string has tokens, also in scripts and signs that the captions never show. Every caption ends
        in </s>, so the empty caption has one token. The same captions give the same tokenizer.
        """
        return cls(Tokenizer.from_str(_trained(tuple(captions), config.vocabulary)), config.max_tokens)

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def encode(self, captions: list[str], longest: int | None = None) -> list[Encoding]:
        """The tokens of each caption, and where they stand in it. longest: what lies beyond this many tokens, the end
        mark included, is cut."""
        if longest is None:
            self.tokenizer.no_truncation()
        else:
            self.tokenizer.enable_truncation(longest)
        return self.tokenizer.encode_batch(captions)

    def decode(self, ids: list[int]) -> str:
        """Tokens as text, without marks."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json, as `PreTrainedTokenizerFast` has them."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.no_truncation()
        self.tokenizer.save(str(folder / FILE))
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.longest,
            "padding_side": "right",
            "truncation_side": "right",
            "pad_token": PAD,
            "eos_token": END,
            "unk_token": UNKNOWN,
        }
        (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> CaptionTokenizer:
        """What `save`, or transformers, wrote. Raises what a missing or damaged file raises."""
        settings = json.loads((folder / SETTINGS).read_text())
        pad = settings.get("pad_token", PAD)
        return cls(
            Tokenizer.from_file(str(folder / FILE)),
            int(settings["model_max_length"]),
            pad["content"] if isinstance(pad, dict) else pad,
        )


@functools.lru_cache(maxsize=2)
def _trained(captions: tuple[str, ...], vocabulary: int) -> str:
    """What tokenizer.json will hold. Kept: runs of one process, as those of an ablation, read the same captions."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END, UNKNOWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, end)])
    return tokenizer.to_str()
