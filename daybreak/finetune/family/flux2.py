"""FLUX.2 [klein]: latents in patches of two by two, each brought to mean 0 and deviation 1 by the autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from daybreak.finetune.families import ATTENTION, InPatches, Text


class Flux2Klein(InPatches):
    """FLUX.2 [klein] of 4 and 9 B. A row holds means and deviations of patches."""

    text_encoders = ("text_encoder",)
    targets = (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "to_qkv_mlp_proj", "attn.to_out")

    def lead(self, guidance: float) -> float:
        """See `Family`; what was distilled to few steps is not guided."""
        return 1.0 if self.pipeline.config.is_distilled else max(guidance, 1.0)

    def max_tokens(self) -> int:
        """See `Family`."""
        return int(self.pipeline.tokenizer_max_length)

    def text(self, captions: list[str]) -> Text:
        """Three layers of the language model, side by side; padding is read too, as in the pipeline."""
        device = next(self.pipeline.text_encoder.parameters()).device
        states, _ = self.pipeline.encode_prompt(list(captions), device)
        return {"states": states}

    def rows(self, pictures: Tensor) -> Tensor:
        """See `Family`: [B, 8C, h / 2, w / 2]."""
        mean, std = super().rows(pictures).chunk(2, dim=1)
        return torch.cat([self.pipeline._patchify_latents(part) for part in (mean, std)], dim=1)

    def x0(self, rows: Tensor, noise: Tensor) -> Tensor:
        """See `Family`."""
        mean, std = rows.float().chunk(2, dim=1)
        centre, scale = self._normal(rows)
        return (mean + std * noise - centre) / scale

    def decode(self, x0: Tensor) -> Tensor:
        """See `Family`."""
        vae = self.pipeline.vae
        centre, scale = self._normal(x0)
        latents = self.pipeline._unpatchify_latents(x0 * scale + centre)
        with torch.autocast(x0.device.type, enabled=False):
            return vae.decode(latents.to(vae.dtype), return_dict=False)[0].float().clamp(-1, 1)

    def _normal(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel of the patches, as the autoencoder knows them."""
        vae = self.pipeline.vae
        variance = vae.bn.running_var.to(like.device).float() + vae.config.batch_norm_eps
        return vae.bn.running_mean.to(like.device).float().view(1, -1, 1, 1), variance.sqrt().view(1, -1, 1, 1)

    def predict(self, network: nn.Module, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """See `Family`."""
        pipeline, states = self.pipeline, text["states"]
        b, c, h, w = x_t.shape
        given = {
            "txt_ids": pipeline._prepare_text_ids(states).to(x_t.device),
            "img_ids": pipeline._prepare_latent_ids(x_t).to(x_t.device),
        }
        output = network(
            hidden_states=pipeline._pack_latents(x_t), timestep=t, guidance=None, encoder_hidden_states=states, **given,
            return_dict=False,
        )[0]  # fmt: skip
        return output[:, : h * w].permute(0, 2, 1).reshape(b, c, h, w)
