"""Extraction against features made by hand; downloads against a real server; caching, skipping, several processes."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import own_cache, save_inception, weights, write_pictures

from daybreak.config import ConfigError
from daybreak.evaluate import downloads, metrics
from daybreak.evaluate.features import extract as extraction
from daybreak.evaluate.features import preprocess
from daybreak.evaluate.features.extract import extract, extract_cached
from daybreak.evaluate.features.networks import Clip, DinoV2, Inception
from daybreak.evaluate.pictures import open_pictures, read_picture
from daybreak.parallel import Ranks
from tests.waiting import LONG

CPU = torch.device("cpu")


def inception(weights, classes: bool = False) -> Inception:
    return Inception(Path(weights["inception"]), CPU, print, classes)


def test_the_inception_pipeline_is_the_module_on_clean_resized_pixels(tmp_path, weights):
    folder = write_pictures(tmp_path / "p", 9, seed=1, side=60)
    network = inception(weights)
    found = extract(open_pictures(folder, "x"), network, CPU, Ranks(), batch=4)
    module = torch.jit.load(weights["inception"])
    expected = []
    for path in sorted(folder.glob("*.png")):
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(np.float32)
        channels = [Image.fromarray(pixels[..., c], mode="F").resize((299, 299), Image.BICUBIC) for c in range(3)]
        batch = torch.tensor(np.stack([np.asarray(c).clip(0, 255) for c in channels]))[None]
        expected.append(module.layers((batch - 128) / 128).detach())
    torch.testing.assert_close(found.features, torch.cat(expected), atol=1e-3, rtol=0)
    # The FID of these features, by numpy and scipy alone, is the one of the streamed statistics.
    assert found.moments.count == 9
    np.testing.assert_allclose(found.moments.covariance, np.cov(torch.cat(expected).double().numpy().T), atol=1e-6)


def test_class_probabilities_come_without_the_output_bias(tmp_path, weights):
    folder = write_pictures(tmp_path / "p", 3, seed=1)
    found = extract(open_pictures(folder, "x"), inception(weights, classes=True), CPU, Ranks())
    features = extract(open_pictures(folder, "x"), inception(weights), CPU, Ranks()).features
    module = torch.jit.load(weights["inception"])
    torch.testing.assert_close(found.features, torch.softmax(features @ module.output.weight.T, dim=1))


def test_clip_and_dinov2_give_what_transformers_gives(tmp_path, weights):
    from transformers import CLIPModel, Dinov2Model
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = write_pictures(tmp_path / "p", 3, seed=1, side=60)
    (folder / "001.png").unlink()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)).save(folder / "001.png")
    images = [Image.open(p) for p in sorted(folder.glob("*.png"))]
    found = extract(open_pictures(folder, "x"), Clip("clip", weights["clip"], CPU), CPU, Ranks()).features
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    with torch.no_grad():
        pixels = processor(images=images, return_tensors="pt")["pixel_values"]
        model = CLIPModel.from_pretrained(weights["clip"]).eval()
        torch.testing.assert_close(found, model.get_image_features(pixels).pooler_output, atol=1e-3, rtol=1e-3)
        found = extract(open_pictures(folder, "x"), DinoV2(weights["dinov2"], CPU), CPU, Ranks()).features
        resized = np.stack([np.asarray(i.resize((224, 224), Image.BICUBIC)) for i in images])
        normal = (resized / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
        model = Dinov2Model.from_pretrained(weights["dinov2"]).eval()
        output = model(torch.tensor(normal).permute(0, 3, 1, 2).float()).pooler_output
    torch.testing.assert_close(found, output, atol=1e-4, rtol=1e-4)


def test_the_text_side_of_clip(weights):
    from transformers import CLIPModel, CLIPTokenizer

    found = Clip("clip", weights["clip"], CPU).text_features(["a red dog", "a photo of a bench " * 40])
    tokens = CLIPTokenizer.from_pretrained(weights["clip"])("a red dog", return_tensors="pt")
    expected = CLIPModel.from_pretrained(weights["clip"]).eval().get_text_features(**tokens).pooler_output
    torch.testing.assert_close(found[:1], expected, atol=1e-5, rtol=1e-5)
    assert found.shape == (2, 16)


def test_pictures_of_any_kind_are_read_and_the_others_listed(tmp_path, weights):
    folder = write_pictures(tmp_path / "p", 4, seed=1)
    Image.new("RGBA", (20, 30), (0, 0, 0, 0)).save(folder / "clear.png")
    Image.new("I;16", (20, 30), 65535).save(folder / "grey.png")
    Image.new("P", (20, 30)).save(folder / "palette.gif")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "half.png").write_bytes((folder / "000.png").read_bytes()[:100])
    assert np.asarray(read_picture(folder / "clear.png")).min() == 255
    assert np.asarray(read_picture(folder / "grey.png")).min() == 255
    pictures = open_pictures(folder, "--reference")
    found = extract(pictures, inception(weights), CPU, Ranks(), batch=3)
    assert len(found) == 7
    assert sorted(Path(s.path).name for s in pictures.skipped) == ["broken.png", "half.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"--reference .*empty holds no pictures"):
        open_pictures(tmp_path / "empty", "--reference")
    (tmp_path / "empty" / "x.png").write_bytes(b"x")
    with pytest.raises(ConfigError, match="0 readable pictures; at least 2 are needed"):
        extract(open_pictures(tmp_path / "empty", "x"), inception(weights), CPU, Ranks())


def test_statistics_are_cached_by_content(tmp_path, weights, own_cache):
    first = write_pictures(tmp_path / "a", 6, seed=1)
    network = inception(weights)
    found = extract_cached(open_pictures(first, "x"), network, CPU, Ranks())
    (file,) = (own_cache / "features").iterdir()
    first.rename(tmp_path / "renamed")

    class Unused:
        key, note = network.key, ""
        prepare = network.prepare

        def features(self, _pixels):
            raise AssertionError("the cache was not used")

    again = extract_cached(open_pictures(tmp_path / "renamed", "x"), Unused(), CPU, Ranks())
    assert torch.equal(again.features, found.features)
    assert torch.equal(again.moments.covariance, found.moments.covariance)
    # Another picture, or a damaged file, is worked out anew.
    Image.new("RGB", (9, 9)).save(tmp_path / "renamed" / "003.png")
    with pytest.raises(AssertionError, match="not used"):
        extract_cached(open_pictures(tmp_path / "renamed", "x"), Unused(), CPU, Ranks())
    file.write_bytes(b"x" * 100)
    repaired = extract_cached(open_pictures(write_pictures(tmp_path / "b", 6, seed=1), "x"), network, CPU, Ranks())
    assert torch.equal(repaired.features, found.features)


def test_only_so_many_features_are_kept(tmp_path, weights, monkeypatch):
    pictures = open_pictures(write_pictures(tmp_path / "p", 20, seed=1), "x")
    whole = extract(pictures, inception(weights), CPU, Ranks())
    monkeypatch.setattr(extraction, "KEPT", 8)
    some = extract(pictures, inception(weights), CPU, Ranks(), batch=3)
    assert some.moments.count == 20
    assert len(some.features) == 8
    rows = [int((whole.features - f).abs().sum(dim=1).argmin()) for f in some.features]
    assert rows == sorted(set(rows))


def test_two_processes_find_what_one_finds(tmp_path, weights):
    folder = write_pictures(tmp_path / "p", 11, seed=1)
    (folder / "broken.png").write_bytes(b"x")
    script = tmp_path / "two.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from daybreak.evaluate.features.extract import extract\n"
        "from daybreak.evaluate.features.networks import Inception\n"
        "from daybreak.evaluate.pictures import open_pictures\n"
        "from daybreak.parallel import joined\n"
        "torch.set_num_threads(1)\n"
        "with joined() as ranks:\n"
        "    network = Inception(Path(sys.argv[2]), torch.device('cpu'), print)\n"
        "    pictures = open_pictures(Path(sys.argv[1]), 'x')\n"
        "    found = extract(pictures, network, torch.device('cpu'), ranks, batch=2)\n"
        "    assert ranks.world == 2 and len(pictures.skipped) == 1\n"
        "    torch.save([found.moments.mean, found.moments.covariance, found.features], f'{sys.argv[3]}{ranks.rank}')\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    arguments = [str(folder), weights["inception"], str(tmp_path / "out")]
    done = subprocess.run(command + arguments, capture_output=True, text=True, timeout=LONG, env=environment)
    assert done.returncode == 0, done.stderr
    single = extract(open_pictures(folder, "x"), inception(weights), CPU, Ranks())
    for rank in (0, 1):
        mean, covariance, features = torch.load(tmp_path / f"out{rank}", weights_only=True)
        torch.testing.assert_close(mean, single.moments.mean)
        torch.testing.assert_close(covariance, single.moments.covariance)
        torch.testing.assert_close(features, single.features)


def test_the_same_pictures_have_no_distance_and_others_have(tmp_path, weights):
    a = extract(open_pictures(write_pictures(tmp_path / "a", 30, seed=1), "x"), inception(weights), CPU, Ranks())
    b = extract(open_pictures(write_pictures(tmp_path / "b", 30, seed=2), "x"), inception(weights), CPU, Ranks())
    assert metrics.frechet_distance(a.moments, a.moments) < 1e-6 < 1e-3 < metrics.frechet_distance(a.moments, b.moments)


@pytest.fixture
def server(tmp_path):
    """A web server with one file, and what the project would know of it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "net.pt").write_bytes(b"weights " * 1000)
    handler = type(
        "Quiet",
        (http.server.SimpleHTTPRequestHandler,),
        {
            "log_message": lambda *_: None,
            "__init__": lambda self, *a: http.server.SimpleHTTPRequestHandler.__init__(
                self, *a, directory=str(tmp_path / "site")
            ),
        },
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        digest = hashlib.sha256(b"weights " * 1000).hexdigest()
        url = f"http://127.0.0.1:{running.server_port}/net.pt"
        yield downloads.KnownFile("net.pt", url, digest, 0.008, "a network", "--weights net=FILE")
        running.shutdown()


def test_a_download_is_announced_checked_and_made_once(server, own_cache):
    said = []
    path = downloads.fetch(server, said.append)
    assert path == own_cache / "net.pt"
    assert len(said) == 1
    for word in ("net.pt", "0.0 MB", server.url, str(path)):
        assert word in said[0]
    assert downloads.fetch(replace(server, url="http://127.0.0.1:1/"), said.append) == path
    assert len(said) == 1
    path.write_bytes(b"altered")
    with pytest.raises(ConfigError, match=f"net.pt is not a network: its sha256 is .* it should be {server.sha256}"):
        downloads.fetch(server, said.append)


def test_a_download_that_fails_says_how_to_bring_the_file(server, own_cache):
    with pytest.raises(ConfigError, match=r"its sha256 is .* it should be 0000"):
        downloads.fetch(replace(server, sha256="0000"), print)
    assert [path.name for path in own_cache.iterdir()] == ["kernels"]
    for url in (server.url + "x", "http://127.0.0.1:1/net.pt"):
        with pytest.raises(ConfigError, match=r"bring it by hand to .*net.pt, or name a copy with --weights net=FILE"):
            downloads.fetch(replace(server, url=url), print)


def test_wrong_weights_are_refused_with_a_way_out(tmp_path, weights):
    # A file that calls itself the standard network must be it; another name is another network, and said to be.
    pretender = save_inception(tmp_path / "inception-2015-12-05.pt")
    with pytest.raises(ConfigError, match="is not the standard Inception network"):
        Inception(pretender, CPU, print)
    assert "not the standard Inception network" in inception(weights).note
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(ConfigError, match=r"text.pt is no TorchScript file"):
        Inception(tmp_path / "text.pt", CPU, print)
    with pytest.raises(ConfigError, match=r"hf download facebook/dinov2-large .*1.2 GB.* --weights dinov2=FOLDER"):
        DinoV2(str(tmp_path / "nowhere"), CPU)


def test_a_crop_is_square_whatever_the_picture():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8))
    assert preprocess.crop_middle(image, 16).shape == (3, 16, 16)
    assert preprocess.crop_middle(image.resize((3, 500)), 16).shape == (3, 16, 16)
