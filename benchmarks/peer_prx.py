"""The public PRX training code, from a checkout beside the project, made to run without its trainer.

Its model, its pipeline, its algorithms (TREAD, REPA, LPIPS, P-DINO, EMA), its losses and its optimiser are the
checkout's own files. Composer, which only calls them in turn, is replaced by that turn; torchvision's `normalize`,
torch.hub's DINO networks and the `lpips` package by equals on the networks that our side uses too, so that both train
against the same ones. In a float32 run the bfloat16 that its code insists on is read as float32: a CPU that only
emulates bfloat16 would make it far slower than it is.
"""

from __future__ import annotations

import sys
import types
from enum import Enum, auto
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from workload import open_text, random_network

from daybreak.config import Config
from daybreak.data.batch import Batch
from daybreak.formats.prx_keys import to_prx
from daybreak.losses.perceptual import LPIPS, VGG16Features
from daybreak.train.precision import autocast

RENAMED = {
    "attention.img_qkv_proj": "img_qkv_proj",
    "attention.txt_kv_proj": "txt_kv_proj",
    "attention.to_out.0": "attn_out",
    "attention.norm_q.weight": "qk_norm.query_norm.scale",
    "attention.norm_k.weight": "qk_norm.key_norm.scale",
    "attention.norm_added_k.weight": "k_norm.scale",
}
"""diffusers' names of PRX's weights -> those of the training code."""


class Float32Torch(types.ModuleType):
    """The module `torch`, in which bfloat16 is float32."""

    bfloat16 = torch.float32

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class Dino(nn.Module):
    """A transformers network behind the interface of DINO's own code."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.embed_dim = network, network.config.hidden_size
        self.skip = 1 + network.config.num_register_tokens

    def forward_features(self, images: Tensor) -> dict[str, Tensor]:
        return {"x_norm_patchtokens": self.network(pixel_values=images).last_hidden_state[:, self.skip :]}


def _normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    m, s = (images.new_tensor(v).view(-1, 1, 1) for v in (mean, std))
    return (images - m) / s


def _module(name: str, **contents: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(contents)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)


class Event(Enum):
    """The moments at which Composer calls algorithms, as far as these look at them."""

    INIT = auto()
    FIT_START = auto()
    FIT_END = auto()
    EVAL_START = auto()
    EVAL_END = auto()
    BATCH_START = auto()
    BATCH_END = auto()
    EPOCH_END = auto()
    BATCH_CHECKPOINT = auto()
    EPOCH_CHECKPOINT = auto()


class Quiet(nn.Module):
    """Composer's model class, whose logger goes nowhere."""

    logger = SimpleNamespace(log_metrics=lambda *_: None, log_hyperparameters=lambda *_: None)


def _stand_ins(lpips: type) -> None:
    """Modules in the place of those frameworks; packages without their __init__, which would import everything."""
    # These look at what is installed when they are first asked for, and must not see the stand-ins.
    from diffusers import AutoencoderDC, AutoencoderKL  # noqa: F401
    from transformers import Qwen3VLForConditionalGeneration, T5GemmaModel  # noqa: F401

    nothing = type("Nothing", (), {"__init__": lambda *_, **__: None})
    _module("composer")
    _module("composer.core", Algorithm=object, Event=Event, State=object, Time=nothing, TimeUnit=nothing)
    _module("composer.loggers", Logger=object)
    _module("composer.models", ComposerModel=Quiet)
    _module("composer.utils")
    _module("composer.utils.misc", is_model_fsdp=lambda _: False)
    sys.modules["composer"].utils = sys.modules["composer.utils"]  # type: ignore[attr-defined]
    _module("torchmetrics", MeanSquaredError=nothing, Metric=object)
    _module("torchvision")
    _module("torchvision.transforms")
    _module("torchvision.transforms.functional", normalize=_normalize)
    _module("lpips", LPIPS=lpips)


class Peer:
    """One model in training through PRX's code. `step(batch)` is one step."""

    def __init__(self, checkout: Path, config: Config, device: torch.device, compiled: bool) -> None:
        self.config, self.device, self.steps = config, device, 0
        low = autocast(config, device)._enabled  # type: ignore[attr-defined]
        self.dtype = torch.bfloat16 if low else torch.float32
        prx = self._import(checkout, compiled)
        pipeline = self._pipeline(prx)
        a, p, r = config.alignment, config.perceptual, config.routing
        algorithms: list[Any] = []
        torch.hub.load = self._hub  # type: ignore[assignment]
        if a.weight:
            algorithms.append(prx.repa.REPA(a.weight, a.layer - 1, "dinov3_vitl16", compile_encoder=compiled))
        if p.lpips:
            algorithms.append(prx.lpips.LPIPS(p.lpips, "vgg", resize_factor=p.lpips_scale, t_threshold=1.0))
        if p.dino:
            side = p.dino_resolution or config.data.resolution
            algorithms.append(
                prx.perceptual_dino.PerceptualDINO(
                    p.dino, "dinov2_vitb14_reg", compile_encoder=compiled, t_threshold=1.0, resize_resolution=side
                )
            )
        for algorithm in algorithms:
            algorithm.add_new_pipeline_modules(pipeline)
        o = config.optim
        self.optimizer = prx.optimizer.create_muon_optimizer(
            pipeline,
            {"lr": o.muon_lr, "momentum": o.muon_momentum, "nesterov": True, "ns_steps": 5, "rms_scale": True,
             "weight_decay": 0.0},
            {"lr": o.adam_lr, "betas": o.adam_betas, "eps": o.adam_eps, "weight_decay": 0.0},
        )  # fmt: skip
        pipeline.to(device)
        self.state = SimpleNamespace(model=pipeline, timestamp=SimpleNamespace(batch=0))
        for algorithm in algorithms:
            algorithm.apply(Event.INIT, self.state, Quiet.logger)
        self.tread = None
        if r.keep < 1:
            end = (r.end or config.model.depth - 1) - 1
            self.tread = prx.tread.Tread(r.start, end, 1 - r.keep, seed=42)
            self.tread.apply(Event.FIT_START, self.state, Quiet.logger)
        pipeline.ema_denoiser.init_model(pipeline.denoiser)
        self.compute_ema, self.keys = prx.ema.compute_ema, prx.constants.BatchKeys
        if compiled:
            pipeline.denoiser.compile()
        self.pipeline = pipeline.train()
        self.parameters = [q for q in pipeline.parameters() if q.requires_grad]

    def _import(self, checkout: Path, compiled: bool) -> SimpleNamespace:
        import importlib

        peer = self

        class Lpips(nn.Module):
            """The `lpips` package's network, as our LPIPS computes it."""

            def __init__(self, net: str) -> None:
                super().__init__()
                assert net == "vgg"
                self.network = LPIPS(VGG16Features(), [torch.rand(c) for c in (64, 128, 256, 512, 512)])

            def forward(self, a: Tensor, b: Tensor) -> Tensor:
                return self.network(a, b)

        _stand_ins(Lpips)
        sys.path.insert(0, str(checkout))
        for package in ("prx", "prx.algorithm", "prx.pipeline", "prx.models", "prx.dataset", "prx.training"):
            _module(package, __path__=[str(checkout / package.replace(".", "/"))])
        compile_of_torch = torch.compile
        if not compiled:  # LPIPS and Newton-Schulz are compiled where they stand
            torch.compile = lambda x=None, **_: x if x is not None else lambda f: f  # type: ignore[assignment]
        names = {
            "prx_model": "prx.models.prx", "fm": "prx.pipeline.fm_pipeline", "tower": "prx.models.text_tower",
            "composer_pipeline": "prx.pipeline.composer_pipeline", "scheduler": "prx.schedulers.scheduler",
            "vae": "prx.models.vae_tower", "repa": "prx.algorithm.repa", "lpips": "prx.algorithm.lpips",
            "perceptual_dino": "prx.algorithm.perceptual_dino", "tread": "prx.algorithm.tread",
            "ema": "prx.algorithm.ema", "optimizer": "prx.training.optimizer", "constants": "prx.dataset.constants",
            "muon": "muon_fsdp2",
        }  # fmt: skip
        found = SimpleNamespace(**{short: importlib.import_module(name) for short, name in names.items()})
        self._complete_muon(found.muon)
        if peer.dtype == torch.float32:
            for module in (found.repa, found.lpips, found.perceptual_dino):
                module.torch = Float32Torch("torch")
        if not compiled:
            torch.compile = compile_of_torch
            found.lpips.torch = SimpleTorch(found.lpips.torch)
        return found

    def _complete_muon(self, muon: Any) -> None:
        """muon-fsdp2 0.3.0 calls on a single device a function that it lacks; here it is of its own three parts."""
        if self.dtype == torch.float32:

            def orthogonal(gradient: Tensor, steps: int) -> Tensor:
                x = gradient.mT if gradient.size(-2) > gradient.size(-1) else gradient
                x = muon.nsloop_torch(x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7), steps)
                return x.mT if gradient.size(-2) > gradient.size(-1) else x

            muon.zeropower_via_newtonschulz5 = orthogonal

        def muon_update(
            gradient: Tensor, momentum: Tensor, beta: float, nesterov: bool, steps: int, scale: bool
        ) -> Tensor:
            update = muon.apply_momentum(gradient, momentum, beta, nesterov)
            return muon.apply_scaling(muon.zeropower_via_newtonschulz5(update, steps), scale)

        muon.muon_update = muon_update

    def _hub(self, repository: str, _name: str) -> Dino:
        """In place of torch.hub: the teacher of the run's own size."""
        c = self.config
        name = c.alignment.teacher if "dinov3" in repository else c.perceptual.dino_teacher
        return Dino(random_network(name, self.dtype, self.device))

    def _pipeline(self, prx: SimpleNamespace) -> Any:
        c = self.config
        text = open_text(c, self.dtype, self.device)

        class Tower(prx.tower.TextTower):  # type: ignore[misc,name-defined]
            def create_model(self, *_: Any) -> tuple[Any, nn.Module]:
                network: Any = text.network
                return text.tokenizer, getattr(network, "encoder", network)

        head = c.model.width // c.model.heads
        denoiser = prx.prx_model.PRX(
            prx.prx_model.PRXParams(
                in_channels=3, patch_size=c.model.patch, context_in_dim=text.width, hidden_size=c.model.width,
                mlp_ratio=c.model.mlp_ratio, num_heads=c.model.heads, depth=c.model.depth,
                axes_dim=[head // 2, head // 2], theta=int(c.model.rope_theta), bottleneck_size=c.model.bottleneck,
            )
        )  # fmt: skip
        scheduler = prx.scheduler.EulerDiscreteScheduler(
            prx.scheduler.SchedulerConfig(prediction_type="x_prediction_flow_matching"), shift=c.diffusion.shift
        )
        tower = Tower(prompt_max_tokens=c.text.max_tokens, torch_dtype=self.dtype).requires_grad_(False)
        vae = prx.vae.VaeTower("identity", "IdentityVAE", 3, self.dtype).requires_grad_(False)
        return prx.composer_pipeline.ComposerFMPipeline(
            denoiser, vae, tower, scheduler, scheduler, c.diffusion.p_uncond, noise_scale=c.diffusion.noise_scale
        )

    def load(self, weights: dict[str, Tensor]) -> None:
        """Takes over the weights of our transformer."""
        theirs = {}
        for name, tensor in to_prx(weights, self.config.model.heads).items():
            for a, b in RENAMED.items():
                name = name.replace(a, b)
            theirs[name] = tensor
        self.pipeline.denoiser.load_state_dict(theirs)

    def x0(self, x_t: Tensor, t: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Its prediction without routing, to compare with ours."""
        if self.tread is not None:
            self.tread.disable()
        with torch.no_grad():
            result = self.pipeline.denoiser(x_t, t, text, mask)
        if self.tread is not None:
            self.tread.enable()
        return result

    def step(self, batch: Batch) -> None:
        """What Composer does in one step, with gradient clipping by norm and the average every so many steps."""
        images = batch.to(self.device).images
        theirs = {self.keys.IMAGE: (images + 1) / 2, self.keys.PROMPT: list(batch.captions)}
        self.state.timestamp.batch = self.steps
        if self.tread is not None:
            self.tread.apply(Event.BATCH_START, self.state, Quiet.logger)
        with autocast(self.config, self.device):
            loss = self.pipeline.loss(self.pipeline(theirs), theirs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.optim.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        if self.steps % self.config.train.ema_every == 0:
            self.compute_ema(self.pipeline.denoiser, self.pipeline.ema_denoiser, self.config.train.ema)


class SimpleTorch(types.ModuleType):
    """A module like `torch` whose `compile` leaves things as they are."""

    def __init__(self, under: Any) -> None:
        super().__init__("torch")
        self.under = under

    def compile(self, network: nn.Module) -> nn.Module:
        return network

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["under"], name)
