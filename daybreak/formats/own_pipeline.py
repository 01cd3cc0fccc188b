"""A diffusers pipeline around our transformer. Exported models carry it along (bundle.py)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from daybreak.diffusion.times import sampling_times
from daybreak.encoders.text import TextTokens
from daybreak.model.convolutions import channels_last
from daybreak.sampling.guidance import classifier_free
from daybreak.sampling.sampler import STEPS


class DaybreakPipeline(DiffusionPipeline):
    """Generates pictures in pixels from prompts.

    The settings are those of the run that the model comes from: side in px, tokens that are read of a prompt, standard
    deviation of the noise, shift of the times, sampler ("euler", "heun"), steps, guidance and the times it holds in.
    """

    model_cpu_offload_seq = "text_encoder->transformer"  # type: ignore[assignment]

    def __init__(
        self,
        transformer: nn.Module,
        text_encoder: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        default_sample_size: int = 32,
        prompt_max_tokens: int = 64,
        noise_scale: float = 1.0,
        shift: float = 1.0,
        sampler: str = "euler",
        steps: int = 24,
        guidance: float = 1.0,
        guidance_from: float = 0.0,
        guidance_to: float = 1.0,
    ) -> None:
        super().__init__()
        channels_last(transformer)  # loading has laid the kernels out anew
        self.register_modules(transformer=transformer, text_encoder=text_encoder, tokenizer=tokenizer)
        self.register_to_config(
            default_sample_size=default_sample_size, prompt_max_tokens=prompt_max_tokens, noise_scale=noise_scale,
            shift=shift, sampler=sampler, steps=steps, guidance=guidance, guidance_from=guidance_from,
            guidance_to=guidance_to,
        )  # fmt: skip
        self.image_processor = VaeImageProcessor(do_resize=False)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        negative_prompt: str | list[str] = "",
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None] | None = None,
    ) -> ImagePipelineOutput | tuple[Any]:
        """One picture for each prompt, or `num_images_per_prompt`.

        Steps, guidance and size: the run's own where they are None. negative_prompt: what guidance leads away from.
        generator: one for all pictures, or one for each. latents [B, 3, H, W]: the noise in its scale, in place of a
        generator. output_type: "pil"; "np" [B, H, W, 3] or "pt" [B, 3, H, W] in [0, 1]; "latent": [-1, 1], not clamped.
        callback_on_step_end(pipeline, step, t, {"latents": x}) may return {"latents": x} to go on with.
        """
        settings: Any = self.config
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        negative = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else list(negative_prompt)
        if len(negative) != len(prompts):
            raise ValueError(f"{len(negative)} negative prompts for {len(prompts)} prompts")
        prompts, negative = ([p for p in texts for _ in range(num_images_per_prompt)] for texts in (prompts, negative))
        shape = (len(prompts), 3, height or settings.default_sample_size, width or settings.default_sample_size)
        device = self._execution_device
        if isinstance(generator, list) and len(generator) != len(prompts):
            raise ValueError(f"{len(generator)} generators for {len(prompts)} pictures")
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
            latents = latents * settings.noise_scale
        x = latents.to(device, torch.float32)

        scale = settings.guidance if guidance_scale is None else guidance_scale
        interval = (settings.guidance_from, settings.guidance_to)
        denoise = classifier_free(self.transformer, self.encode(prompts), self.encode(negative), scale, interval)
        step = STEPS[settings.sampler]
        steps = num_inference_steps or settings.steps
        times = sampling_times(steps, settings.shift).to(device)
        with self.progress_bar(total=steps) as bar:
            for i, (now, then) in enumerate(pairwise(times)):
                x = step(denoise, x, now.expand(len(x)), then.expand(len(x)))
                if callback_on_step_end is not None:
                    x = (callback_on_step_end(self, i, now, {"latents": x}) or {}).get("latents", x)
                bar.update()
        self.maybe_free_model_hooks()
        images: Any = self.image_processor.postprocess(x, output_type)
        return ImagePipelineOutput(images) if return_dict else (images,)

    def encode(self, prompts: list[str]) -> TextTokens:
        """The text encoder's last states; what is past `prompt_max_tokens` is not read."""
        limit = self.config["prompt_max_tokens"]
        encoded = self.tokenizer(prompts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        ids, mask = encoded["input_ids"].long(), encoded["attention_mask"].bool()
        if ids.shape[1] == 0:  # only empty prompts, and a tokenizer that adds nothing to them
            ids, mask = ids.new_full((len(ids), 1), self.tokenizer.pad_token_id), mask.new_zeros(len(mask), 1)
        padded = not bool(mask.all())
        ids, mask = ids.to(self._execution_device), mask.to(self._execution_device)
        # Loaded without a dtype, the text encoder keeps the file's number format and the transformer is float32.
        hidden = self.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return TextTokens(torch.where(mask[..., None], hidden, 0.0), mask, padded)
