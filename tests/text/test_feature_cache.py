"""The cache of text features: whole files, damaged ones, two processes, read-only folders and full disks."""

import hashlib
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from optisar_yolo.text import cache as cache_module
from optisar_yolo.text.blocks import BlockFile
from optisar_yolo.text.cache import TextFeatureCache
from optisar_yolo.text.encoder import TextEncoder, TextError

torch.set_num_threads(1)


class Fake(TextEncoder):
    """Vectors from a hash of the words; records what it encodes."""

    def __init__(self, mark="a"):
        self.name, self.width, self.max_tokens = "fake", 8, 16
        self.fingerprint = hashlib.sha256(mark.encode()).hexdigest()
        self.encoded = []

    def _tokens(self, texts):
        self.encoded += texts
        return [list(hashlib.sha256(t.encode()).digest()[:8]) for t in texts]

    def _forward(self, ids, mask):
        return ids.float() + 1


@pytest.fixture
def warned(monkeypatch):
    """The warnings, in order."""
    out = []
    monkeypatch.setattr(cache_module.LOGGER, "warning", out.append)
    return out


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "USER_CONFIG_DIR", tmp_path / "home")


def test_each_expression_is_encoded_once(tmp_path):
    cache = TextFeatureCache(Fake(), tmp_path)
    out = cache(["a ship", "a dam", "a  ship "])
    assert out.shape == (3, 8) and torch.equal(out[0], out[2]) and not torch.equal(out[0], out[1])
    assert cache(["a dam"]).equal(out[1:2]) and sorted(cache.encoder.encoded) == ["a dam", "a ship"]


def test_file_gives_the_same_vectors_without_encoding(tmp_path):
    cache = TextFeatureCache(Fake(), tmp_path)
    cache.precompute(["a ship", "a dam", "ein Schiff ü"])
    assert cache.path == tmp_path / f"texts-{cache.encoder.fingerprint[:12]}.features" and cache.path.is_file()
    again = TextFeatureCache(Fake(), tmp_path)
    assert torch.equal(again(["ein Schiff ü", "a ship"]), cache(["ein Schiff ü", "a ship"]))
    assert again.encoder.encoded == []
    assert len(again) == 3


def test_nothing_new_writes_nothing(tmp_path):
    cache = TextFeatureCache(Fake(), tmp_path)
    cache.precompute(["a ship"])
    before = cache.path.stat().st_mtime_ns
    cache.precompute(["a ship"])
    cache.precompute([])
    assert cache.path.stat().st_mtime_ns == before


def test_encoders_do_not_share_a_file(tmp_path):
    TextFeatureCache(Fake("a"), tmp_path).precompute(["a ship"])
    other = TextFeatureCache(Fake("b"), tmp_path)
    assert len(other) == 0
    other.precompute(["a dam"])
    assert len(list(tmp_path.glob("texts-*.features"))) == 2


def test_bad_record_is_named(tmp_path):
    with pytest.raises(TextError, match="text 1 is blank"):
        TextFeatureCache(Fake(), tmp_path)(["a ship", " "])
    with pytest.raises(TextError, match="text 0 is 3"):
        TextFeatureCache(Fake(), tmp_path).precompute([3])


@pytest.mark.parametrize("damage", ["cut", "empty", "junk", "header"])
def test_damaged_file_is_rebuilt_with_a_warning(tmp_path, warned, damage):
    first = TextFeatureCache(Fake(), tmp_path)
    first.precompute(["a ship", "a dam"])
    whole = first.path.read_bytes()
    bad = {"cut": whole[:-9], "empty": b"", "junk": b"\xff" * 200, "header": whole[:8] + b"!" + whole[9:]}[damage]
    first.path.write_bytes(bad)
    cache = TextFeatureCache(Fake(), tmp_path)
    assert len(warned) == 1 and "damaged text cache" in warned[0] and str(first.path) in warned[0]
    cache.precompute(["a ship"])
    assert len(TextFeatureCache(Fake(), tmp_path)) == 1 and torch.equal(cache(["a ship"]), first(["a ship"]))


def test_saving_appends_and_another_cache_reads_on(tmp_path):
    """What is in the file stays as it is, and another process' features are found without reading all of it."""
    first, second = TextFeatureCache(Fake(), tmp_path), TextFeatureCache(Fake(), tmp_path)
    first.precompute(["a ship", "a dam"])
    before = first.path.read_bytes()
    second.precompute(["a dam", "a crane"])
    after = second.path.read_bytes()
    assert after.startswith(before) and b"a dam" not in after[len(before) :]
    assert len(second) == 3 and torch.equal(second(["a ship"]), first(["a ship"]))
    first.precompute(["a port"])
    assert len(first) == 4 and torch.equal(first(["a crane"]), second(["a crane"]))
    assert first.encoder.encoded == ["a dam", "a ship", "a port"] and len(TextFeatureCache(Fake(), tmp_path)) == 4


@pytest.mark.parametrize("damage", ["killed", "changed", "foreign"])
def test_damage_costs_the_texts_behind_it_alone(tmp_path, warned, damage):
    first = TextFeatureCache(Fake(), tmp_path)
    first.precompute(["a ship"])
    size = first.path.stat().st_size
    first.precompute(["a dam", "a crane"])
    whole = first.path.read_bytes()
    middle = (size + len(whole)) // 2
    bad = {
        "killed": whole[:middle],
        "changed": whole[:middle] + b"!" + whole[middle + 1 :],
        "foreign": whole[:size] + b"x" * 90,
    }
    first.path.write_bytes(bad[damage])
    cache = TextFeatureCache(Fake(), tmp_path)
    assert len(cache) == 1 and len(warned) == 1 and "damaged text cache" in warned[0]
    cache.precompute(["a ship"])  # nothing new, but a file to repair
    assert cache.path.read_bytes() == whole[:size]
    cache.precompute(["a dam"])
    assert len(TextFeatureCache(Fake(), tmp_path)) == 2 and len(warned) == 1


def test_a_file_that_another_took_the_place_of_is_read_anew(tmp_path):
    first = TextFeatureCache(Fake(), tmp_path)
    first.precompute(["a ship", "a dam"])
    first.path.unlink()
    first.precompute(["a crane"])
    assert len(TextFeatureCache(Fake(), tmp_path)) == 1 and len(first) == 3
    (tmp_path / "other").mkdir()
    other = TextFeatureCache(Fake(), tmp_path / "other")
    other.precompute(["a port", "a car", "a tank", "a bus"])
    os.replace(other.path, first.path)
    first.precompute(["a pier"])
    assert len(first) == 8 and len(TextFeatureCache(Fake(), tmp_path)) == 5


def former(folder, texts, vectors):
    raw = torch.tensor(bytearray(json.dumps(texts, ensure_ascii=False).encode()), dtype=torch.uint8)
    path = folder / f"texts-{Fake().fingerprint[:12]}.safetensors"
    save_file({"texts": raw, "vectors": vectors}, path)
    return path


def test_files_of_the_former_form_are_read(tmp_path, warned):
    texts = ["a ship", "ein Schiff ü"]
    path = former(tmp_path, texts, Fake().encode(texts))
    before = path.read_bytes()
    cache = TextFeatureCache(Fake(), tmp_path)
    assert torch.equal(cache(texts), Fake().encode(texts)) and cache.encoder.encoded == []
    cache.precompute(texts)
    assert not cache.path.exists(), "nothing new, nothing written"
    cache.precompute(["a dam"])
    again = TextFeatureCache(Fake(), tmp_path)
    assert len(again) == 3 and again.encoder.encoded == [] and path.read_bytes() == before and not warned
    path.write_bytes(before[:-9])
    assert len(TextFeatureCache(Fake(), tmp_path)) == 3 and not warned, "the new file is there"
    again.path.unlink()
    assert len(TextFeatureCache(Fake(), tmp_path)) == 0 and "damaged text cache" in warned[0]


def test_a_former_file_in_a_folder_that_cannot_be_written_is_copied_once(tmp_path, monkeypatch, warned):
    (tmp_path / "set").mkdir()
    former(tmp_path / "set", ["a ship"], Fake().encode(["a ship"]))
    whole = BlockFile.append

    def append(self, texts, vectors):
        if self.path.parent.name == "set":
            raise PermissionError(13, "Permission denied", str(self.path))
        whole(self, texts, vectors)

    monkeypatch.setattr(BlockFile, "append", append)
    for texts in (["a ship"], ["a dam"], ["a dam", "a ship"], ["a crane"]):
        TextFeatureCache(Fake(), tmp_path / "set").precompute(texts)
    file = TextFeatureCache(Fake(), tmp_path / "home" / "optisar-texts")._files[0]
    assert sorted(BlockFile(file.path, 8).read()[0]) == ["a crane", "a dam", "a ship"]
    assert len(warned) == 2, "only where something is to be saved"


def test_new_texts_in_and_outside_of_inference_mode(tmp_path):
    cache = TextFeatureCache(Fake(), tmp_path)
    with torch.inference_mode():
        cache([f"a ship {i}" for i in range(300)])
    cache([f"a dam {i}" for i in range(300)])
    parameter = torch.nn.Parameter(torch.ones(8))
    (cache(["a ship 1", "a dam 1"]) * parameter).sum().backward()
    assert torch.equal(parameter.grad, cache(["a ship 1", "a dam 1"]).sum(0))


def test_features_that_are_no_numbers_are_not_kept(tmp_path):
    cache = TextFeatureCache(Fake(), tmp_path)
    whole = cache.encoder.encode
    cache.encoder.encode = lambda texts: (
        whole(texts) * torch.tensor([[float("nan") if "x" in t else 1.0] for t in texts])
    )
    cache.precompute(["a ship", "x"])
    assert len(TextFeatureCache(Fake(), tmp_path)) == 1


def test_a_copy_has_the_features_and_goes_its_own_way(tmp_path):
    cache = TextFeatureCache(Fake(), tmp_path)
    cache.precompute(["a ship"])
    cache(["a dam"])
    twin = pickle.loads(pickle.dumps(cache))
    twin.precompute(["a crane"])
    cache.save()
    assert len(twin) == 3 and torch.equal(twin(["a dam"]), cache(["a dam"]))
    assert len(TextFeatureCache(Fake(), tmp_path)) == 3


def _fill(folder, mark, meet):
    cache = TextFeatureCache(Fake(), folder)
    meet.wait(60)
    for i in range(25):
        cache.precompute([f"{mark} ship {i}"])


def test_two_processes_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    meet = context.Barrier(2)
    other = context.Process(target=_fill, args=(tmp_path, "red", meet))
    other.start()
    _fill(tmp_path, "blue", meet)
    other.join(60)
    assert other.exitcode == 0
    cache = TextFeatureCache(Fake(), tmp_path)
    cache([f"{mark} ship {i}" for mark in ("red", "blue") for i in range(25)])
    assert len(cache) == 50
    assert cache.encoder.encoded == [] or os.name == "nt"  # without file locks an expression may be encoded again
    assert not list(tmp_path.glob(".*.part"))


def test_unwritable_folder_goes_to_the_users_folder(tmp_path, warned):
    (tmp_path / "data").write_text("a file, so no folder can be made below it")
    cache = TextFeatureCache(Fake(), tmp_path / "data" / "set")
    cache.precompute(["a ship"])
    cache.precompute(["a dam"])
    assert cache.path.parent == tmp_path / "home" / "optisar-texts" and cache.path.is_file()
    assert len(warned) == 1 and "cannot be saved" in warned[0]
    assert len(TextFeatureCache(Fake(), tmp_path / "data" / "set")) == 2  # and is found there the next time


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_read_only_folder(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    folder.chmod(0o500)
    cache = TextFeatureCache(Fake(), folder)
    cache.precompute(["a ship"])
    assert cache.path.parent == tmp_path / "home" / "optisar-texts" and not list(folder.iterdir())


def test_no_place_at_all_keeps_memory(tmp_path, monkeypatch, warned):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cache_module, "USER_CONFIG_DIR", tmp_path / "file")
    cache = TextFeatureCache(Fake(), tmp_path / "file")
    cache.precompute(["a ship"])
    assert cache.path is None and cache.save() is None and len(cache) == 1
    assert len(warned) == 2 and "stay in memory" in warned[-1]
    assert TextFeatureCache(Fake()).path is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_full_disk_leaves_the_old_file_whole(tmp_path):
    code = f"""
        import resource, sys
        sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
        from pathlib import Path
        from test_feature_cache import Fake, TextFeatureCache, cache_module
        cache_module.USER_CONFIG_DIR = Path({str(tmp_path / "home")!r})
        cache = TextFeatureCache(Fake(), {str(tmp_path)!r})
        cache.precompute(["a ship"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
        cache.precompute([f"a ship {{i}}" for i in range(50)])
        assert cache.path is None and len(cache) == 51
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "cannot be saved" in run.stderr + run.stdout
    assert len(TextFeatureCache(Fake(), tmp_path)) == 1
    assert not list(tmp_path.rglob(".*.part"))


def test_features_are_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    """A root user may write everywhere, so that the answer of the system is given here."""
    TextFeatureCache(Fake(), tmp_path).precompute(["the ship", "the harbor"])
    for lock in tmp_path.glob("*.lock"):
        lock.unlink()
    monkeypatch.setattr("os.access", lambda *_: False)
    cache = TextFeatureCache(Fake(), tmp_path)
    assert len(cache) == 2 and not list(tmp_path.glob("*.lock"))
