"""What an adapter does to the weight W of one layer, in the forms that trainers write: LoRA, LoHa, LoKr, a difference.

Each holds its tensors under the names that kohya's scripts and LyCORIS give them in a file, after the layer's. The
update is (alpha / rank) times their product; with a magnitude (DoRA, arXiv 2402.09353, eq. 5) the sum W + update keeps
its direction and is given that length, for each output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

TOLERANCE = 1e-5
"""Of what comes back from a file, relative to a tensor's largest value: folding alpha / rank in rounds."""
Rows = Sequence[tuple[int, int]]
"""Output rows of a layer, as ranges one after the other."""


@dataclass(frozen=True)
class Adapter(ABC):
    """tensors: by name; alpha: over the rank, what the product is multiplied by; magnitude: [out, 1, ...], or
    [1, in, ...] as older LyCORIS has it, or [out]; bias: what is added to the layer's own, [out]."""

    tensors: dict[str, Tensor]
    alpha: float
    magnitude: Tensor | None = None
    bias: Tensor | None = None

    needs: ClassVar[tuple[frozenset[str], ...]]
    """Sets of tensors of which one has to be whole."""
    may_have: ClassVar[frozenset[str]] = frozenset()

    @property
    @abstractmethod
    def rank(self) -> int | None:
        """Of its factors; None where it has none, and is not scaled."""

    @abstractmethod
    def product(self) -> Tensor:
        """Of its factors, with as many values as the weight."""

    def delta(self, shape: torch.Size) -> Tensor:
        """The update of a weight of this shape, in float32. ValueError where it has another number of values."""
        product = self.product()
        if product.numel() != shape.numel() or len(product) != shape[0]:
            raise ValueError(f"its update is {_by(product.shape)} values, the layer {_by(shape)}")
        return product.reshape(shape) * self.scale

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return 1.0 if self.rank is None else self.alpha / self.rank

    def applied(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """The weight, so far on the way from the base's (0) to the adapted one (1), in its own number format."""
        base = weight.float()
        adapted = base + self.delta(weight.shape).to(base.device)
        if self.magnitude is not None:
            magnitude = self.magnitude.to(base.device)
            of_inputs = magnitude.ndim > 1 and magnitude.shape[0] == 1 != len(base)
            axis = 1 if of_inputs else 0
            if magnitude.numel() != base.shape[axis]:
                raise ValueError(f"its magnitude has {magnitude.numel()} values, the layer {base.shape[axis]}")
            others = [d for d in range(base.ndim) if d != axis]
            length = adapted.square().sum(dim=others, keepdim=True).sqrt()
            adapted = adapted * (magnitude.reshape(length.shape) / length)
        return torch.lerp(base, adapted, strength).to(weight.dtype)

    def rows(self, rows: Rows, shape: torch.Size) -> Adapter:
        """What it does to some of the outputs of a weight of this shape; the others are other layers of the base."""
        delta = self.delta(shape)
        return Difference({"diff": _take(delta, rows)}, 1.0, **self._of_rows(rows))

    def _of_rows(self, rows: Rows) -> dict[str, Tensor | None]:
        of_inputs = self.magnitude is not None and self.magnitude.ndim > 1 and len(self.magnitude) == 1
        return {
            "magnitude": self.magnitude if self.magnitude is None or of_inputs else _take(self.magnitude, rows),
            "bias": None if self.bias is None else _take(self.bias, rows),
        }

    def same_as(self, other: Adapter) -> bool:
        """Whether both do the same to a layer, to rounding."""
        if type(self) is not type(other) or (self.magnitude is None) != (other.magnitude is None):
            return False
        pairs = [(self.product() * self.scale, other.product() * other.scale)]
        if self.magnitude is not None and other.magnitude is not None:
            pairs.append((self.magnitude.flatten(), other.magnitude.flatten()))
        return all(a.shape == b.shape and (a - b).abs().max() <= TOLERANCE * a.abs().max() for a, b in pairs)


@dataclass(frozen=True)
class LowRank(Adapter):
    """LoRA (arXiv 2106.09685): up @ down; of a convolution down has its kernel, or `mid` has (LyCORIS' tucker form).

    down: [rank, in] or [rank, in, k, k]; up: [out, rank] or [out, rank, 1, 1]; mid: [rank, rank, k, k].
    """

    needs = (frozenset({"lora_down.weight", "lora_up.weight"}),)
    may_have = frozenset({"lora_mid.weight"})

    @property
    def down(self) -> Tensor:
        """[rank, in] or [rank, in, k, k]."""
        return self.tensors["lora_down.weight"]

    @property
    def up(self) -> Tensor:
        """[out, rank] or [out, rank, 1, 1]."""
        return self.tensors["lora_up.weight"]

    @property
    def rank(self) -> int:
        """See `Adapter`."""
        return len(self.down)

    @property
    def scaled_up(self) -> Tensor:
        """`up` with alpha / rank in it."""
        return self.up * self.scale

    def product(self) -> Tensor:
        """See `Adapter`."""
        if (mid := self.tensors.get("lora_mid.weight")) is not None:
            return torch.einsum("m n h w, o m, n i -> o i h w", mid, self.up.flatten(1), self.down.flatten(1))
        return self.up.flatten(1) @ self.down.flatten(1)

    def rows(self, rows: Rows, shape: torch.Size) -> Adapter:  # noqa: ARG002 - factors need no shape
        """See `Adapter`."""
        return replace(self, tensors=self.tensors | {"lora_up.weight": _take(self.up, rows)}, **self._of_rows(rows))

    def same_as(self, other: Adapter) -> bool:
        """See `Adapter`; both factors are compared, since of an update of zero one still counts in training."""
        if not isinstance(other, LowRank) or (self.magnitude is None) != (other.magnitude is None):
            return False
        pairs = [(self.down, other.down), (self.scaled_up, other.scaled_up)]
        if self.magnitude is not None and other.magnitude is not None:
            pairs.append((self.magnitude.flatten(), other.magnitude.flatten()))
        return all(a.shape == b.shape and (a - b).abs().max() <= TOLERANCE * a.abs().max() for a, b in pairs)


@dataclass(frozen=True)
class Hadamard(Adapter):
    """LoHa (FedPara, arXiv 2108.06098): the product, value by value, of two low-rank matrices."""

    needs = (frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}),)
    may_have = frozenset({"hada_t1", "hada_t2"})

    @property
    def rank(self) -> int:
        """See `Adapter`."""
        return len(self.tensors["hada_w1_b"])

    def product(self) -> Tensor:
        """See `Adapter`."""
        t = self.tensors
        return _factor(t["hada_w1_a"], t["hada_w1_b"], t.get("hada_t1")) * _factor(
            t["hada_w2_a"], t["hada_w2_b"], t.get("hada_t2")
        )


@dataclass(frozen=True)
class Kronecker(Adapter):
    """LoKr (LyCORIS, arXiv 2309.14859): the Kronecker product of w1 and w2, each whole or of low rank."""

    needs = tuple(
        frozenset({*w1, *w2})
        for w1 in (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
        for w2 in (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"))
    )
    may_have = frozenset({"lokr_t2"})

    @property
    def rank(self) -> int | None:
        """See `Adapter`."""
        t = self.tensors
        if "lokr_t2" in t:
            return len(t["lokr_t2"])
        return next((len(t[n]) for n in ("lokr_w2_b", "lokr_w1_b") if n in t), None)

    def product(self) -> Tensor:
        """See `Adapter`."""
        t = self.tensors
        w1 = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
        w2 = t["lokr_w2"] if "lokr_w2" in t else _factor(t["lokr_w2_a"], t["lokr_w2_b"], t.get("lokr_t2"))
        return torch.kron(w1.reshape(*w1.shape, *[1] * (w2.ndim - 2)), w2)


@dataclass(frozen=True)
class Difference(Adapter):
    """The update itself."""

    needs = (frozenset({"diff"}),)

    @property
    def rank(self) -> None:
        """See `Adapter`."""
        return None

    def product(self) -> Tensor:
        """See `Adapter`."""
        return self.tensors["diff"]


FORMS: tuple[type[Adapter], ...] = (LowRank, Hadamard, Kronecker, Difference)


def adapter_from(
    tensors: dict[str, Tensor], alpha: float | None, magnitude: Tensor | None = None, bias: Tensor | None = None
) -> Adapter:
    """The adapter that a layer's tensors make up. alpha: None where the file says none, and the update is not scaled.

    ValueError, which names what is missing, where they make up none.
    """
    form = next((f for f in FORMS if any(n in tensors for needed in f.needs for n in needed)), None)
    if form is None:
        raise ValueError(f"has {' and '.join(sorted(tensors)) or 'a scale'} alone")
    missing = min((needed - tensors.keys() for needed in form.needs), key=len)
    if missing:
        raise ValueError(f"has no {sorted(missing)[0]}")
    known = form.may_have.union(*form.needs)
    if extra := sorted(tensors.keys() - known):
        raise ValueError(f"has {extra[0]} beside a tensor of another form")
    found = form(tensors, 1.0, magnitude, bias)
    return replace(found, alpha=float(found.rank or 1) if alpha is None else alpha)


def _by(shape: torch.Size) -> str:
    return " x ".join(map(str, shape))


def _take(tensor: Tensor, rows: Rows) -> Tensor:
    return torch.cat([tensor[a:b] for a, b in rows])


def _factor(a: Tensor, b: Tensor, core: Tensor | None) -> Tensor:
    """a @ b: [out, in * k * k]; with a core [r, r, k, k] of both (tucker form, a then [r, out]): [out, in, k, k]."""
    return a @ b if core is None else torch.einsum("i j h w, i o, j n -> o n h w", core, a, b)
