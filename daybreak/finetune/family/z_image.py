"""Z-Image: one stream of text and picture, whose text has a length of its own for each picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from daybreak.finetune.families import InPatches, Text

LONGEST = 512
"""Tokens that the pipeline reads."""


class ZImage(InPatches):
    """Z-Image and Z-Image-Turbo (6 B). Its network is asked with 1 - t, and answers with the velocity from noise."""

    text_encoders = ("text_encoder",)

    @property
    def resolution(self) -> int:
        """See `Family`; the pipeline's own default."""
        return 1024

    def lead(self, guidance: float) -> float:
        """See `Family`; the pipeline adds its guidance to the caption's own prediction."""
        return 1.0 + max(guidance, 0.0)

    def max_tokens(self) -> int:
        """See `Family`."""
        return min(LONGEST, int(self.pipeline.tokenizer.model_max_length))

    def text(self, captions: list[str]) -> Text:
        """The penultimate states of the language model, padded; the mask tells which count."""
        device = next(self.pipeline.text_encoder.parameters()).device
        length = self.max_tokens()
        read, _ = self.pipeline.encode_prompt(  # which changes the list that it is given
            list(captions), device, do_classifier_free_guidance=False, max_sequence_length=length
        )
        states = read[0].new_zeros(len(read), length, read[0].shape[-1])
        mask = torch.zeros(len(read), length, dtype=torch.bool, device=device)
        for i, own in enumerate(read):
            states[i, : len(own)], mask[i, : len(own)] = own, True
        return {"states": states, "mask": mask}

    def predict(self, network: nn.Module, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """See `Family`."""
        states = list(text["states"])
        if not x_t.is_meta:  # there the longest stand for all
            states = [own[: int(length)] for own, length in zip(states, text["mask"].sum(dim=1), strict=True)]
        pictures = list(x_t.unsqueeze(2))  # [C, 1, h, w] each
        output = network(pictures, 1 - t, states, return_dict=False)[0]
        return -torch.stack(list(output)).squeeze(2)
