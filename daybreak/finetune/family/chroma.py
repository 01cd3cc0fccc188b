"""Chroma: FLUX.1 with T5 alone, and a mask over its text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from daybreak.finetune.families import Flux, Text, from_patches, to_patches

LONGEST = 512
"""Tokens that the pipeline reads."""


class Chroma(Flux):
    """Chroma1 (8.9 B)."""

    text_encoders = ("text_encoder",)

    def lead(self, guidance: float) -> float:
        """See `Family`."""
        return max(guidance, 1.0)

    def max_tokens(self) -> int:
        """See `Family`."""
        return LONGEST

    def text(self, captions: list[str]) -> Text:
        """The pipeline's own embeddings, as long as it makes them: its mask is added, and hides padding in part."""
        device = next(self.pipeline.text_encoder.parameters()).device
        states, _, mask, *_ = self.pipeline.encode_prompt(
            captions, device=device, do_classifier_free_guidance=False, max_sequence_length=self.max_tokens()
        )
        return {"states": states, "mask": mask}

    def predict(self, network: nn.Module, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """See `Family`."""
        b, c, h, w = x_t.shape
        tokens, states = to_patches(x_t), text["states"]
        mask = text["mask"]
        output = network(
            hidden_states=tokens,
            timestep=t,
            encoder_hidden_states=states,
            txt_ids=torch.zeros(states.shape[1], 3, device=x_t.device, dtype=x_t.dtype),
            img_ids=self.pipeline._prepare_latent_image_ids(b, h // 2, w // 2, x_t.device, x_t.dtype),
            attention_mask=torch.cat([mask, mask.new_ones(b, tokens.shape[1])], dim=1),
            return_dict=False,
        )[0]
        return from_patches(output, c, h, w)
