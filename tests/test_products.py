"""Which library multiplies on a CPU: chosen where it is known to be faster, never at the price of exactness."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from daybreak import products
from daybreak.parallel import pick_device


@pytest.fixture(autouse=True)
def unchosen() -> Iterator[None]:
    """torch as it comes, and afterwards as it was."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def test_products_are_exact_to_float32_whatever_was_chosen():
    assert pick_device().type in ("cpu", "cuda")
    a, b = torch.randn(300, 500), torch.randn(500, 200)
    exact = a.double() @ b.double()
    assert float((a @ b - exact).abs().max()) < 1e-3 < float((a.bfloat16() @ b.bfloat16() - exact).abs().max())
    assert products.on_onednn() == products._mkl_holds_back()


def test_a_processor_of_intel_keeps_mkl(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(products, "CPU_INFO", tmp_path / "cpuinfo")
    products.CPU_INFO.write_text("vendor_id\t: GenuineIntel\n")
    products.choose_products()
    assert not products.on_onednn()


def test_a_choice_made_before_is_kept():
    torch.set_float32_matmul_precision("high")
    products.choose_products()
    assert torch.get_float32_matmul_precision() == "high"


def test_rounded_products_would_be_noticed(monkeypatch):
    monkeypatch.setattr(products, "_mkl_holds_back", lambda: True)
    monkeypatch.setattr(products, "_error_of_a_product", lambda: 1e-3)
    products.choose_products()
    assert torch.get_float32_matmul_precision() == "highest"
    monkeypatch.undo()
    assert products._error_of_a_product() < products.EXACT / 3
