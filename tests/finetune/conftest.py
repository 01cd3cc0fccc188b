"""A base, pictures and a finished run, shared: write nothing into them."""

import pytest
import tiny


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return tiny.save_sd(tmp_path_factory.mktemp("base") / "sd")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    return tiny.write_pictures(tmp_path_factory.mktemp("pictures") / "circles", 24)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    return tiny.write_pictures(tmp_path_factory.mktemp("mixed") / "circles", sizes=tiny.MIXED)


@pytest.fixture(scope="session")
def full_run(base, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("full") / "run"
    tiny.finetune(base, pictures, out, lr=3e-3, flip=True, offset_noise=0.05, micro_batch=3, save_every=100)
    return out
