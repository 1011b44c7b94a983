"""The authors' checkpoints: read without running anything in them, mapped, checked, and equal to what they hold."""

from __future__ import annotations

import os
import zipfile
from functools import partial

import pytest
import torch
from released_file import WIDTH, foreign_classes, network, released, tree, write
from tiny_net import unit

from optisar_yolo.commands import main as cli
from optisar_yolo.engine import grounding as asking
from optisar_yolo.engine.checkpoint import CheckpointError, load_shared
from optisar_yolo.nn.plmoe import PLMoE
from optisar_yolo.paper.release import gates, import_release, without_text
from optisar_yolo.plugin.identify import is_ours


def answers(model, texts=3):
    """Boxes and confidences of expressions about an image of 96 x 64: its row 8 sees 3 x 2 cells, an odd side."""
    torch.manual_seed(1)
    img, text = torch.rand(1, 3, 96, 64), unit(texts, WIDTH)
    with torch.inference_mode():
        return asking.ground(model, model.encode(img), torch.zeros(texts, dtype=torch.long), text, 5)


@pytest.fixture(scope="module")
def opened():
    """A network of the release whose gates are open."""
    return network(gate=0.7)


def test_a_released_checkpoint_answers_as_the_network_in_it(opened, tmp_path, caplog):
    file = write(tmp_path / "official.pt", opened, network(gate=0.2, seed=5))
    assert cli.main(["import-weights", str(file), f"save={tmp_path / 'taken.safetensors'}"]) == 0
    model = load_shared(tmp_path / "taken.safetensors")
    assert is_ours(tmp_path / "taken.safetensors")
    for mine, theirs in zip(answers(model), answers(opened), strict=True):
        assert torch.equal(mine, theirs)
    assert (model.text_model, model.text_fingerprint, model.args["imgsz"]) == ("mobileclip2:b", "", 512)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in opened.state_dict().items())


def test_report_tells_used_from_unused(opened, tmp_path):
    found = import_release(write(tmp_path / "a.pt", opened))
    assert found.source == "ema" and not found.model.training
    assert sorted(found.unused) == ["model.23.savpe.cv1.0.0.conv.weight", "model.23.savpe.cv3.bias"]
    rows = found.table().splitlines()
    assert rows[-1].split()[:3] == ["unused", "2", "148"] and "visual prompts" in rows[-1]
    used = [row.split() for row in rows[1:-1]]
    assert all(row[0] == "used" for row in used) and "other" not in found.table()
    assert sum(int(row[1]) for row in used) == len(found.model.state_dict())
    assert "scratch" not in found.tensors  # a buffer that the release does not save


def test_unknown_parts_are_reported(opened, tmp_path):
    with foreign_classes() as make:
        extra = tree(released(opened) | {"model.23.lrpc.weight": torch.rand(2)}, make)
        torch.save({"model": extra}, tmp_path / "more.pt")
    found = import_release(tmp_path / "more.pt")
    assert found.source == "model" and found.unused["model.23.lrpc.weight"].startswith("unknown")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_plain_dictionary_of_tensors_opens_too(opened, tmp_path, dtype):
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in released(opened).items()}
    torch.save(state, tmp_path / "state.pt")
    model = import_release(tmp_path / "state.pt").model
    assert all(torch.allclose(v, model.state_dict()[k], rtol=1e-2) for k, v in opened.state_dict().items())


def test_settings_of_the_experts_are_those_in_the_file(tmp_path):
    model = network(experts=4, rank=16)
    found = import_release(write(tmp_path / "four.pt", model, top_k=3, target_patches=10, min_patch=1)).model
    block = found.model[8].m[0]
    assert (block.gate.top_k, block.per_side, block.patch) == (3, 10, 1)
    assert found.yaml["backbone"][8][3] == [1024, 4, 3, 16, 1, False, 10]


class Harmful:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def harmful(canary):
    """Calls that would leave a file."""
    return {
        "system": Harmful(os.system, f"touch {canary}"),
        "eval": Harmful(eval, f"open({str(canary)!r}, 'w').close()"),
        "partial": Harmful(partial, os.system, f"touch {canary}"),
        "getattr": Harmful(getattr, Harmful(partial, open, str(canary), "w"), "func"),
    }


@pytest.mark.parametrize("kind", ["system", "eval"])
def test_these_calls_do_harm_where_pickles_are_trusted(tmp_path, kind):
    canary = tmp_path / "canary"
    torch.save(harmful(canary)[kind], tmp_path / "bad.pt")
    torch.load(tmp_path / "bad.pt", weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize("kind", ["system", "eval", "partial", "getattr"])
def test_nothing_in_a_file_is_executed(opened, tmp_path, kind):
    """Beside the model the call is passed over; in its place there is no model."""
    canary = tmp_path / "canary"
    bad = harmful(canary)[kind]
    file = write(tmp_path / "beside.pt", opened, extra={"optimizer": bad, "train_args": {"imgsz": bad}})
    found = import_release(file)
    assert torch.equal(answers(found.model)[1], answers(opened)[1]) and found.imgsz == 640
    torch.save({"ema": bad}, tmp_path / "instead.pt")
    with pytest.raises(CheckpointError, match="instead.pt: no tensors under 'ema' or 'model'"):
        import_release(tmp_path / "instead.pt")
    torch.save({"model": {"model.0.conv.weight": torch.rand(2), "x": bad}}, tmp_path / "inside.pt")
    with pytest.raises(CheckpointError, match="no weights of OptiSAR"):
        import_release(tmp_path / "inside.pt")
    assert not canary.exists()


def changed(model, **changes):
    """Tensors of a release with some replaced, or taken away where the change is None."""
    state = released(model) | changes
    return {k: v for k, v in state.items() if v is not None}


def itself():
    """A module that contains itself."""
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    module._modules["again"] = module
    return module


SHORT, LONG = torch.rand(64, 32, 1, 1), torch.zeros(1).expand(10**9)
NAN, HUGE = torch.full((16,), torch.nan), torch.full((16,), 1e6)
BROKEN = {
    "missing": ({"model.10.cv1.conv.weight": None, "model.5.bn.bias": None}, "2 of .* tensors missing .*5.bn.bias"),
    "shape": ({"model.3.conv.weight": SHORT}, r"1 of .* model.3.conv.weight \(64, 32, 1, 1\) instead of"),
    "repeated number": ({"model.1.conv.weight": LONG}, "1 of .* have another shape"),
    "scale": ({"model.0.conv.weight": torch.rand(20, 3, 3, 3)}, "20 channels .*, 2 layers .*: no scale"),
    "experts": ({"model.8.m.0.moe.experts.lora1_A": torch.rand(8, 9)}, r"experts of shape \(8, 9\): no scale"),
    "no adapter": ({"model.23.reprta.m.w3.weight": None}, "no weights of OptiSAR.*w3.weight missing"),
    "not a number": ({"model.0.bn.bias": NAN}, r"1 tensors .* no finite numbers \(model.0.bn.bias"),
    "too large": ({"model.0.bn.bias": HUGE}, "no finite numbers"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_tensors_that_do_not_fit_are_named(opened, tmp_path, case):
    changes, message = BROKEN[case]
    torch.save({"model": changed(opened, **changes)}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=f"bad.pt: .*{message}"):
        import_release(tmp_path / "bad.pt")


def test_files_of_other_kinds_are_refused(opened, tmp_path):
    whole = write(tmp_path / "whole.pt", opened).read_bytes()
    with zipfile.ZipFile(tmp_path / "compressed.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("readme.txt", "no checkpoint")
    with zipfile.ZipFile(tmp_path / "cut.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}q\x00X\x05\x00")
    (tmp_path / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save({"ema": {k: v for k, v in released(opened).items() if "savpe" in k}}, tmp_path / "prompts.pt")
    torch.save({"model": itself()}, tmp_path / "itself.pt")
    torch.save({"model": torch.nn.Sequential(torch.nn.Linear(2, 2))}, tmp_path / "yolo.pt")
    torch.save(opened.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name, message in {
        "truncated": "truncated or no PyTorch checkpoint",
        "empty": "truncated or no PyTorch checkpoint",
        "old": "truncated or no PyTorch checkpoint",
        "compressed": "compressed",
        "other": "no data.pkl in it",
        "cut": "damaged or refused",
        "prompts": "only parts that have no place here, 2 tensors .visual prompts",
        "itself": "nested deeper than 50 levels, or one contains itself",
        "yolo": r"no weights of OptiSAR-Net\+\+ .Sequential",
    }.items():
        with pytest.raises(CheckpointError, match=f"{name}.pt: .*{message}"):
            import_release(tmp_path / f"{name}.pt")


def test_a_tensor_cannot_reach_beyond_its_storage(opened, tmp_path):
    """The pickle says 16 numbers; the file holds fewer."""
    file = write(tmp_path / "long.pt", opened)
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(tmp_path / "short.pt", "w") as cut:
        for name in archive.namelist():
            content = archive.read(name)
            cut.writestr(name, content[: len(content) // 2] if "/data/" in name else content)
    with pytest.raises(CheckpointError, match="short.pt: storage .* holds"):
        import_release(tmp_path / "short.pt")


def test_closed_gates_are_told_and_late_gives_the_same_answers(tmp_path, monkeypatch, caplog):
    closed = network(gate=0.0)
    write(tmp_path / "official.pt", closed)
    monkeypatch.chdir(tmp_path)
    lines = []
    monkeypatch.setattr("optisar_yolo.paper.release.LOGGER.info", lines.append)
    assert cli.main(["import-weights", "official.pt"]) == 0
    assert any("late=True" in line for line in lines)
    lines.clear()
    assert cli.main(["import-weights", "model=official.pt", "late=True"]) == 0
    assert not any("late=True" in line for line in lines)
    whole, late = load_shared("optisar++n.safetensors"), load_shared("optisar++n-late.safetensors")
    assert whole.guided == [16, 19, 22] and late.guided == []
    assert late.text_model == whole.text_model and not any("guide" in k for k in late.state_dict())
    looks = []
    late.model[22].register_forward_hook(lambda *_: looks.append(1))
    for mine, theirs in zip(answers(late), answers(whole), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-4)
    assert looks == [1]


def test_open_gates_have_no_cheaper_equal(opened, tmp_path, capsys):
    write(tmp_path / "official.pt", opened)
    target = tmp_path / "late.safetensors"
    assert cli.main(["import-weights", str(tmp_path / "official.pt"), f"save={target}", "late=True"]) == 1
    assert "the text reaches the pyramid of this network (row 16: " in capsys.readouterr().err
    assert not target.exists()
    one = network(gate=0.0)
    one.model[19].attn.attention_gate.data[0, 3] = 0.5
    assert [row for row, size in gates(one).items() if size] == [19]
    with pytest.raises(ValueError, match="row 19"):
        without_text(one)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "optisar import-weights needs model=… (the authors' checkpoint), such as model=official.pt"),
        (["a.pt", "save=b.pt"], "ends in .safetensors"),
        (["a.pt", "lat=1"], "unknown argument 'lat'; did you mean 'late'?"),
        (["a.pt", "late=maybe"], "late=maybe: it must be True or False"),
        (["nowhere.pt"], "weights 'nowhere.pt' not found"),
    ],
)
def test_slips_on_the_command_line(words, message, capsys):
    assert cli.main(["import-weights", *words]) in (1, 2)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("gate", [0.0, 0.7])
def test_the_form_for_inference_is_the_same(gate):
    model = network(gate=gate)
    before = answers(model)
    late = answers(without_text(model).fuse(verbose=False)) if not gate else before
    for fused, close, plain in zip(answers(model.fuse(verbose=False)), late, before, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(close, plain, rtol=1e-3, atol=1e-2)


def test_fixed_patches_are_the_same_at_even_sides(opened, tmp_path):
    """Both steps to an equal network combine; row 8 traces then."""
    write(tmp_path / "official.pt", network(gate=0.0))
    target = tmp_path / "fixed.safetensors"
    words = [f"save={target}", "late=True", "fixed_patch=True"]
    assert cli.main(["import-weights", str(tmp_path / "official.pt"), *words]) == 0
    fixed = load_shared(target)
    assert fixed.yaml["yaml_file"] == "optisar++n-official-late-fixed.yaml"
    assert type(fixed.model[8]) is PLMoE and not fixed.guided
    x = torch.rand(1, 256, 4, 6)
    with torch.no_grad():
        theirs = import_release(tmp_path / "official.pt").model.model[8]
        traced = torch.jit.trace(fixed.model[8], x, check_trace=False)
        torch.testing.assert_close(traced(x), theirs(x), rtol=0, atol=1e-5)
        assert not torch.allclose(fixed.model[8](x[..., :5]), theirs(x[..., :5]), atol=1e-4)
