"""Text encoders: interface, bad input, word order, independence of the batch, limits, fingerprints."""

import json
import random
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from optisar_yolo.commands.main import main as run_command
from optisar_yolo.language.generate import Claims, canonical, held_out_wording, random_claims, wording
from optisar_yolo.language.vocabulary import RESERVED
from optisar_yolo.text import encoder as text_module
from optisar_yolo.text.distillation import distill as distill_module
from optisar_yolo.text.distillation.config import DistillConfig
from optisar_yolo.text.distillation.corpus import allowed, generated, ranking_triples, read_corpus
from optisar_yolo.text.encoder import TextError
from optisar_yolo.text.encoders import load_text_encoder
from optisar_yolo.text.mobileclip import MobileClipEncoder, find_mobileclip, text_state
from optisar_yolo.text.pocket import BUNDLED, TOKENIZER_FILE, WEIGHTS_FILE, PocketConfig

torch.set_num_threads(1)
EXPRESSIONS = [
    "the SAR ship in the upper left",
    "a bridge",
    "the rightmost optical airplane close to the long grey pier",
]


@pytest.fixture(scope="module")
def pocket():
    return load_text_encoder("pocket")


def test_vectors_are_unit_rows_on_the_cpu(pocket):
    out = pocket.encode(EXPRESSIONS)
    assert out.shape == (3, pocket.width) and out.dtype == torch.float32
    assert out.device.type == "cpu" and not out.requires_grad
    assert torch.allclose(out.norm(dim=1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a ship", ""], "text 1 is empty"),
        (["  \n"], "text 0 is blank"),
        (["a ship", 7], "text 1 is 7 of type int"),
        ([None], "text 0 is None of type NoneType"),
        ([], "no texts"),
        ("a ship", "put it in a list"),
    ],
)
def test_bad_texts_are_named(pocket, texts, words):
    with pytest.raises(TextError, match=words):
        pocket.encode(texts)


def test_long_text_is_cut_with_one_warning(pocket, monkeypatch):
    monkeypatch.setattr(text_module, "_warned", set())
    warned = []
    monkeypatch.setattr(text_module.LOGGER, "warning", warned.append)
    long = "the ship " * 100
    first, again = pocket.encode([long]), pocket.encode([long + "near a bridge"])
    assert torch.allclose(first, again, atol=1e-6)  # what differs lies behind the cut
    assert len(warned) == 1 and "longer than 64 tokens" in warned[0]


def test_blanks_do_not_matter(pocket):
    assert torch.equal(pocket.encode(["  the \n ship "]), pocket.encode(["the ship"]))


def test_word_order_matters(pocket):
    expressions = [
        "the ship left of the bridge",
        "find the vessel that is on the left of the bridge",
        "the bridge left of the ship",
    ]
    a, same, exchanged = pocket.encode(expressions)
    assert a @ exchanged < 0.9 and a @ same > a @ exchanged


def test_result_does_not_depend_on_the_batch(pocket):
    rng = random.Random(0)
    texts = [wording(random_claims(rng), rng) for _ in range(300)]
    together = pocket.encode(texts)
    alone = torch.cat([pocket.encode([t]) for t in texts[::10]])
    assert torch.allclose(together[::10], alone, atol=1e-5)
    order = rng.sample(range(len(texts)), len(texts))
    assert torch.allclose(pocket.encode([texts[i] for i in order]), together[order], atol=1e-5)


def test_the_precision_of_a_training_around_it_does_not_matter(pocket):
    apart = pocket.encode(["the leftmost ship"])
    assert pocket.to(torch.device("cpu")) is pocket
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pocket.encode(["the leftmost ship"]), apart)


def test_same_meaning_is_nearer_than_a_swap(pocket):
    triples = ranking_triples(300, seed=11)
    a, p, s = pocket.encode([t for triple in triples for t in triple]).view(-1, 3, pocket.width).unbind(1)
    assert ((a * p).sum(1) > (p * s).sum(1)).float().mean() > 0.9


def test_size_limits_and_licence(pocket):
    assert sum(p.numel() for p in pocket.net.parameters()) <= 6_000_000
    files = [f for f in BUNDLED.iterdir() if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 13_000_000
    assert {f.name for f in files} >= {WEIGHTS_FILE, TOKENIZER_FILE, "record.json", "LICENSE.teacher", "NOTICE"}


def test_unseen_words_are_read(pocket):
    """Whole vocabulary kept: no English word becomes the unknown token."""
    words = ["wharf", "catamaran", "hangar", "beneath", "silo", "estuary"]
    unknown = pocket.tokenizer.token_to_id("[UNK]")
    assert all(unknown not in t for t in pocket._tokens(words))
    vectors = pocket.encode(words)
    assert (vectors @ vectors.T - torch.eye(len(words))).max() < 0.99


def test_fingerprint_follows_weights_and_tokenizer(pocket, tmp_path):
    for name in (WEIGHTS_FILE, TOKENIZER_FILE):
        shutil.copy(BUNDLED / name, tmp_path / name)
    same = load_text_encoder("pocket", tmp_path)
    assert same.fingerprint == pocket.fingerprint
    with safe_open(str(tmp_path / WEIGHTS_FILE), "pt") as file:
        meta = file.metadata()
    state = load_file(tmp_path / WEIGHTS_FILE)
    state["head.bias"] = state["head.bias"] + 0.01
    save_file(state, tmp_path / WEIGHTS_FILE, metadata=meta)
    other = load_text_encoder("pocket", tmp_path / WEIGHTS_FILE)
    assert other.fingerprint != pocket.fingerprint
    assert not torch.equal(other.encode(EXPRESSIONS), pocket.encode(EXPRESSIONS))
    tokens = tmp_path / TOKENIZER_FILE
    tokens.write_text(tokens.read_text().replace('"lowercase":true', '"lowercase":false'))
    assert load_text_encoder("pocket", tmp_path).fingerprint != other.fingerprint


def test_damaged_or_missing_pocket_names_the_file(tmp_path):
    with pytest.raises(TextError, match="missing file"):
        load_text_encoder("pocket", tmp_path)
    shutil.copy(BUNDLED / TOKENIZER_FILE, tmp_path)
    whole = (BUNDLED / WEIGHTS_FILE).read_bytes()
    (tmp_path / WEIGHTS_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TextError, match=f"{WEIGHTS_FILE}.*damaged"):
        load_text_encoder("pocket", tmp_path)


@pytest.mark.parametrize("name", ["", "bert", "mobileclip2", "sbert:", "POCKET"])
def test_unknown_encoder(name):
    with pytest.raises(TextError, match="choose pocket"):
        load_text_encoder(name)


def test_missing_sbert_folder(tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("YOLO_OFFLINE", "1")
    with pytest.raises(TextError, match="cannot be loaded"):
        load_text_encoder(f"sbert:{tmp_path / 'none'}")


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return MobileClipEncoder("random")


def test_mobileclip_cropped_padding_is_exact(clip):
    assert sum(p.numel() for p in clip.net.parameters()) == 63_428_096
    assert (clip.width, clip.max_tokens) == (512, 77)
    cropped = clip.encode(EXPRESSIONS)
    clip.net.attn_mask = clip.mask
    with torch.no_grad():
        full = torch.nn.functional.normalize(clip.net(clip.tokenizer(EXPRESSIONS)), dim=-1)
    assert torch.allclose(cropped, full, atol=1e-5)
    assert (full[0] - full[1]).abs().max() > 1e-3


def test_mobileclip_checkpoint_names(clip):
    ours = clip.net.state_dict()
    assert text_state({f"text.{k}": v for k, v in ours.items()} | {"visual.x": torch.zeros(1)}).keys() == ours.keys()
    block = "transformer.resblocks.0"
    apple = text_state(
        {
            "text_encoder.transformer.0.pre_norm_mha.1.qkv_proj.weight": ours[f"{block}.attn.in_proj_weight"],
            "text_encoder.transformer.0.pre_norm_ffn.4.bias": ours[f"{block}.mlp.c_proj.bias"],
            "text_encoder.embedding_layer.weight": ours["token_embedding.weight"],
            "text_encoder.positional_embedding.pos_embed.pos_embed": ours["positional_embedding"][None, None],
        }
    )
    assert all(torch.equal(v, ours[k]) for k, v in apple.items()) and len(apple) == 4


def test_missing_mobileclip_weights_tell_the_way(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_OFFLINE", "1")
    monkeypatch.delenv("OPTISAR_WEIGHTS", raising=False)
    with pytest.raises(TextError, match="OPTISAR_WEIGHTS.*research only.*empty shell"):
        find_mobileclip(None)
    monkeypatch.setenv("OPTISAR_WEIGHTS", str(tmp_path))
    with pytest.raises(TextError, match="not found at OPTISAR_WEIGHTS"):
        find_mobileclip(None)
    (tmp_path / "mobileclip2_b.pt").write_bytes(b"junk")
    assert find_mobileclip(None) == tmp_path / "mobileclip2_b.pt"
    with pytest.raises(TextError, match="not found at text_weights"):  # a wrong place that was named is not passed over
        find_mobileclip(tmp_path / "other.pt")


def test_wordings_keep_the_meaning_apart_and_reserved_words_out():
    texts, index = generated(300, 3, 0)
    assert index.shape == (360, 2, 4) and index.max() == len(texts) - 1
    assert not any(RESERVED.search(t) for t in texts)
    for said, swapped in index[:, :, -1].tolist():
        assert texts[said] != texts[swapped]
    for a, p, s in ranking_triples(200, seed=3):
        assert RESERVED.search(p) and not RESERVED.search(a) and not RESERVED.search(s) and a != s


def test_swap_changes_one_slot():
    rng = random.Random(5)
    for _ in range(500):
        meaning = random_claims(rng)
        swap = meaning.swapped(rng)
        changed = {k for k in vars(meaning) if getattr(meaning, k) != getattr(swap, k)}
        assert len(changed) == 1 or changed == {"category", "reference"}


def test_canonical_reads_like_the_data_sets():
    ship = Claims("ship", "sar", place=("left", "top"), size="small")
    assert canonical(ship) == "the small SAR ship in the upper left corner of the image"
    assert canonical(Claims("airplane", "optical", superlative="right")) == "the rightmost optical airplane"
    held = held_out_wording(ship, random.Random(2))
    assert held is not None and "watercraft" in held and "tiny" in held and "radar-imaged" in held
    assert allowed("the tiny red vehicle") and not allowed("the tiny wharf") and not allowed("Locate the ship")


def test_corpus_files(tmp_path):
    (tmp_path / "a.json").write_text('[{"phrase": "a  ship"}, "a bridge"]')
    (tmp_path / "b.json").write_text('{"annotations": [{"caption": "a pier"}, {"captions": ["a dam", "a pool"]}]}')
    (tmp_path / "c.txt").write_text("a tank\n\na tank\n")
    assert read_corpus(tmp_path) == ["a bridge", "a dam", "a pier", "a pool", "a ship", "a tank"]
    (tmp_path / "d.json").write_text('[{"image": 1}]')
    with pytest.raises(ValueError, match=r"d\.json: holds no expression"):
        read_corpus(tmp_path)
    (tmp_path / "d.json").write_text("[")
    with pytest.raises(ValueError, match=r"d\.json: cannot be read"):
        read_corpus(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["corpus=x"], "optisar distill needs teacher=…"),
        (["corpus=x", "teacher=y"], "optisar distill needs out=…"),
        (["corpus=x", "teacher=y", "out=z", "epoch=3"], "unknown argument 'epoch'"),
        (["corpus=x", "teacher=y", "out=z", "steps=few"], "steps=few: it must be a whole number of at least 1"),
        (["corpus=x", "teacher=y", "out=z", "noise=-1"], "'noise=-1.0' is not valid"),
    ],
)
def test_distill_command_refuses_wrong_options(capsys, words, message):
    assert run_command(["distill", *words]) == 2
    assert message in capsys.readouterr().err


def test_distill_command_hands_its_options_over(capsys, monkeypatch):
    given = []

    def distil(*args, **kwargs):
        given.append((args, kwargs))
        return dict.fromkeys(("parameters", "bytes", "texts", "agreement", "ranking", "seconds", "shape"), 1)

    monkeypatch.setattr("optisar_yolo.text.distill", distil, raising=False)
    assert run_command(["distill", "corpus=a.txt,b.txt", "teacher=t", "out=o", "steps=7", "unseen=c.txt"]) == 0
    assert given == [((["a.txt", "b.txt"], "t", "o", ["c.txt"], DistillConfig(steps=7)), {"cache": None})]
    assert list(json.loads(capsys.readouterr().out)) == "parameters bytes texts agreement ranking seconds".split()


class Stub:
    """Stands for a teacher: the bundled tokenizer, random vectors."""

    def __init__(self, name):
        self.tokenizer = Tokenizer.from_file(str(BUNDLED / TOKENIZER_FILE))
        self.table = torch.randn(self.tokenizer.get_vocab_size(), 12)

    def encode(self, texts, what):
        return torch.nn.functional.normalize(torch.randn(len(texts), 16), dim=-1).half()

    def words(self):
        return torch.nn.functional.normalize(torch.randn(len(self.table), 16), dim=-1)


def test_distill_writes_an_encoder_and_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr(distill_module, "Teacher", Stub)
    (tmp_path / "corpus.txt").write_text("\n".join(f"the ship {i}" for i in range(20)) + "\nlocate the ship\n")
    (tmp_path / "unseen.txt").write_text("the ship 1\nthe dam\n")
    out = tmp_path / "out"
    record = distill_module.distill(
        tmp_path / "corpus.txt",
        "stub",
        out,
        unseen=tmp_path / "unseen.txt",
        config=DistillConfig(steps=2, meanings=12, wordings=2, pairs=4, real=4, generic=4),
        shape=PocketConfig(rank=8, dim=16, layers=1, heads=2, hidden=16, out=16),
    )
    assert (
        record["texts"]["real"] == 20 and record["texts"]["unseen"] == 1
    )  # the reserved word is kept out, the seen one too
    assert json.loads((out / "record.json").read_text()) == record
    encoder = load_text_encoder("pocket", out)
    assert encoder.encode(["a ship"]).shape == (1, 16) and encoder.name == "pocket"
    assert not list(out.glob(".*"))


def test_sbert_folder_gives_what_sentence_transformers_gives(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    models = pytest.importorskip("sentence_transformers.models")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(**shape)).save_pretrained(tmp_path / "bert")
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(BUNDLED / TOKENIZER_FILE), pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    ).save_pretrained(tmp_path / "bert")
    body = models.Transformer(str(tmp_path / "bert"), max_seq_length=32)
    prints = set()
    for mode in ("mean", "cls"):
        pooling = models.Pooling(16, pooling_mode=mode)
        model = sentence_transformers.SentenceTransformer(modules=[body, pooling], device="cpu")
        model.save(str(tmp_path / mode))
        encoder = load_text_encoder(f"sbert:{tmp_path / mode}")
        wanted = torch.tensor(model.encode(EXPRESSIONS, normalize_embeddings=True))
        assert encoder.width == 16 and encoder.max_tokens == 32
        assert torch.allclose(encoder.encode(EXPRESSIONS), wanted, atol=1e-5)
        assert torch.allclose(encoder.encode(EXPRESSIONS[:1]), wanted[:1], atol=1e-5)
        prints.add(encoder.fingerprint)
    assert len(prints) == 2
