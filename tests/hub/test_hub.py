"""Weights of the Hugging Face Hub, against a server of this machine that speaks its API."""

import sys

import hub_server
import numpy as np
import pytest
import torch

from optisar_yolo import OptiSAR
from optisar_yolo.engine import find_weights
from optisar_yolo.hub import HubError, fetch_weights, model_card
from optisar_yolo.plugin import is_ours
from optisar_yolo.utils import BUNDLED_MODEL, MissingExtraError

huggingface_hub = pytest.importorskip("huggingface_hub")
BUNDLED = find_weights(BUNDLED_MODEL)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    server = hub_server.Hub()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("YOLO_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)  # HF_ENDPOINT is read when the package is imported
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.split("{repo_id}")[1]
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}" + template)
    yield server
    server.shutdown()
    server.server_close()


def offline(monkeypatch, how):
    if how == "YOLO_OFFLINE":
        monkeypatch.setenv("YOLO_OFFLINE", "1")
    else:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_weights_are_published_and_opened_again(hub, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    model = OptiSAR(BUNDLED)
    address = model.push_to_hub("user/ships", private=True, license="cc-by-4.0", token="hf_test")
    assert address.startswith(f"{hub.url}/user/ships/commit/") and hub.made["user/ships"].items() & {
        ("private", True),
        ("visibility", "private"),
    }
    assert set(hub.repos["user/ships"]) == {"model.safetensors", "README.md"}
    for again in (OptiSAR("hf://user/ships"), OptiSAR.from_pretrained("user/ships", revision="v1")):
        state = model.model.state_dict()
        assert all(torch.equal(v.half(), state[k].half()) for k, v in again.model.state_dict().items())
        boxes = [m.predict(image, text="the ship", conf=0.0, verbose=False)[0].boxes.data for m in (model, again)]
        assert torch.allclose(*boxes)
    card = huggingface_hub.ModelCard(hub.repos["user/ships"]["README.md"].decode())
    assert card.data.license == "cc-by-4.0" and card.data.library_name == "optisar-yolo" and "sar" in card.data.tags
    for fact in (
        "scale n",
        "320 pixels",
        "sar transmission tower",
        "val-of-three-sources.yaml val: 636 true",
        "threshold 0.509",
    ):
        assert fact in card.text
    assert 'OptiSAR.from_pretrained("user/ships")' in card.text


def test_a_card_of_somebody_elses_hand_stays(hub, caplog):
    hub.repos["user/ships"] = {"README.md": b"# My ships"}
    OptiSAR(BUNDLED).push_to_hub("user/ships", token="hf_test")
    assert hub.repos["user/ships"]["README.md"] == b"# My ships" and "model.safetensors" in hub.repos["user/ships"]
    assert "README.md is not one that was made here" in caplog.text
    hub.repos["user/ships"]["README.md"] = model_card({"imgsz": 7}, "user/ships").encode()
    OptiSAR(BUNDLED).push_to_hub("user/ships", token="hf_test")
    assert b"320 pixels" in hub.repos["user/ships"]["README.md"]  # one of ours is renewed


@pytest.mark.parametrize("how", ["YOLO_OFFLINE", "HF_HUB_OFFLINE"])
def test_the_cache_serves_where_the_network_is_switched_off(hub, monkeypatch, how):
    hub.repos["user/ships"] = {"model.safetensors": BUNDLED.read_bytes()}
    first = fetch_weights("hf://user/ships")
    asked = len(hub.asked)
    offline(monkeypatch, how)
    assert fetch_weights("user/ships") == first and find_weights("hf://user/ships") == first
    assert len(hub.asked) == asked  # nothing was asked
    with pytest.raises(HubError, match="hf://user/cars: not in the cache, and the network is switched off"):
        fetch_weights("user/cars")
    with pytest.raises(HubError, match="not published, as the network is switched off"):
        OptiSAR(BUNDLED).push_to_hub("user/ships", token="hf_test")


@pytest.mark.parametrize("how", ["gone", "failing"])
def test_the_cache_serves_where_the_hub_does_not_answer_and_that_is_said(hub, monkeypatch, caplog, how):
    hub.repos["user/ships"] = {"model.safetensors": BUNDLED.read_bytes()}
    first = fetch_weights("user/ships")
    if how == "gone":
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    else:
        hub.failing = True
    assert fetch_weights("user/ships") == first
    assert "hf://user/ships: the Hub" in caplog.text and "the cached copy is used" in caplog.text
    with pytest.raises(HubError, match="hf://user/cars: not in the cache, and the Hub"):
        fetch_weights("user/cars")


def test_a_second_opening_fetches_no_weights_again(hub):
    hub.repos["user/ships"] = {"model.safetensors": BUNDLED.read_bytes()}
    for _ in range(2):
        fetch_weights("user/ships")
    assert sum(a.startswith("GET") and a.endswith("model.safetensors") for a in hub.asked) == 1


FILES = {
    "pt": ({"best.pt": b"x", "README.md": b""}, "no .safetensors in it .best.pt.; other kinds .* run code"),
    "nothing": ({"README.md": b""}, "no .safetensors in it .no weights."),
    "two": (
        {"a.safetensors": b"", "b/c.safetensors": b""},
        "name one of its files: hf://…/a.safetensors, hf://…/b/c.safe",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_repository_without_one_safetensors(hub, kind):
    files, message = FILES[kind]
    hub.repos["user/ships"] = files
    with pytest.raises(HubError, match=f"hf://user/ships: {message}"):
        OptiSAR("hf://user/ships")


def test_a_file_of_several_is_named(hub):
    hub.repos["user/ships"] = {"a.safetensors": b"", "sub/b.safetensors": BUNDLED.read_bytes()}
    assert fetch_weights("hf://user/ships/sub/b.safetensors").read_bytes() == BUNDLED.read_bytes()
    assert fetch_weights("user/ships", file="a.safetensors").name == "a.safetensors"
    hub.repos["user/ships"]["model.safetensors"] = b"1"
    assert fetch_weights("hf://user/ships@main").read_bytes() == b"1"  # the name that we write goes first


@pytest.mark.parametrize(
    "name, message",
    [
        ("hf://user/gone", "no such repository, or it is private"),
        ("hf://user/ships@v9", "no such revision"),
        ("hf://user/ships/gone.safetensors", "has no gone.safetensors; its weights are model.safetensors"),
        ("hf://user/ships/best.pt", "only .safetensors files are read"),
        ("hf://ships", "not a name of the Hub: write hf://user/name"),
        ("hf://user/gated", "grants access on request"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, name, message):
    hub.repos |= {"user/ships": {"model.safetensors": b""}, "user/gated": {"model.safetensors": b""}}
    hub.gated.add("user/gated")
    with pytest.raises(HubError, match=message) as caught:
        OptiSAR(name)
    assert "\n" not in str(caught.value)


def test_weights_of_another_project_are_told(hub, tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    hub.repos["user/other"] = {"model.safetensors": (tmp_path / "a.safetensors").read_bytes()}
    with pytest.raises(ValueError, match="model.safetensors"):
        OptiSAR("hf://user/other")


def test_names_of_the_hub_are_ours_and_open_with_yolo_too(hub):
    from ultralytics import YOLO

    assert is_ours("hf://user/ships") and not is_ours("https://user/ships")
    hub.repos["user/ships"] = {"model.safetensors": BUNDLED.read_bytes()}
    assert isinstance(YOLO("hf://user/ships"), OptiSAR)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"optisar-yolo\[hub\]"):
        OptiSAR("hf://user/ships")


def test_the_card_lists_facts_and_other_entries():
    meta = {
        "imgsz": 640, "names": {"0": "optical ship"}, "wordings": ["plural"], "version": "1", "format": 2,
        "facts": {
            "modalities": ["optical"], "sizes": [320, 640], "words": ["ship"], "licence": "CC BY 4.0",
            "training": [{"data": ["a.yaml", "b.yaml"], "images": 5, "epochs": 3}],
            "figures": {"a.yaml val": {"optical": {"Pr@0.5": 0.5, "count": 4}}},
        },
        "mine": {"note": "a|b"},
    }  # fmt: skip
    card = model_card(meta, "user/ships")
    for line in (
        "| confidence | not calibrated: a confidence is no probability |",
        "| trained on | a.yaml + b.yaml: 5 images, 3 epochs |",
        "| image sizes | 320 to 640 |",
        "| licence of the data | CC BY 4.0 |",
        "| a.yaml val | optical | Pr@0.5 | 0.5 |",
        "| wordings | plural |",
        ' "mine": {',
    ):
        assert line in card
    assert "license:" not in card.split("---")[1]
    bare = model_card({}, "user/ships")
    assert "trained on" not in bare and "Figures" not in bare and "not recorded" in bare
