"""`optisar distill`: teach the pocket text encoder from a sentence-transformers teacher.

Two things are asked of the student at once. It shall agree with the teacher (one minus cosine, on real expressions,
generated ones and generic words), and where the teacher is weak it shall be better: MiniLM puts "upper left" and
"upper right" nearer to one another than two wordings of the same place. A ranking term over generated meanings
(`optisar_yolo.language.generate`) turns that round: every expression shall be nearer to another wording of its meaning
than to any expression of another meaning, the one-slot swap in the same wording first of all.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from optisar_yolo.language import RESERVED
from optisar_yolo.text.distillation.corpus import allowed, generated, generic, rank_sets, read_texts
from optisar_yolo.text.distillation.measure import agreement, ranking
from optisar_yolo.text.distillation.student import DistillConfig, crop, embed, tokenise, train
from optisar_yolo.text.distillation.teacher import Teacher, factorised
from optisar_yolo.text.pocket import TOKENIZER_FILE, WEIGHTS_FILE, PocketConfig, PocketNet, load_pocket, save_pocket


def distill(
    corpus: str | Path | Sequence[str | Path],
    teacher: str,
    out: str | Path,
    unseen: str | Path | Sequence[str | Path] | None = None,
    config: DistillConfig | None = None,
    shape: PocketConfig | None = None,
    cache: str | Path | None = None,
) -> dict[str, object]:
    """Make a pocket text encoder.

    Args:
        corpus: training expressions, see `read_texts`.
        teacher: a sentence-transformers name or folder with a WordPiece tokenizer.
        out: folder for `pocket.safetensors`, `tokenizer.json` and `record.json`.
        unseen: expressions for measuring agreement; those that also stand in `corpus` are left out.
        config: how to teach.
        shape: shape of the student; vocabulary and output width follow the teacher.
        cache: file for the teacher's vectors, to try several settings without encoding again; not kept if None.

    Returns:
        The record, as written to `record.json`.

    Raises:
        ValueError: corpus or teacher cannot be used.
    """
    config = config or DistillConfig()
    torch.manual_seed(config.seed)
    folder = Path(out)
    started = time.perf_counter()
    name = Path(teacher).name
    model = Teacher(teacher)
    shape = shape or PocketConfig(vocab=len(model.table))
    tokenizer = model.tokenizer
    tokenizer.no_padding()
    tokenizer.enable_truncation(shape.max_tokens)
    plain = tokenizer.from_str(
        tokenizer.to_str()
    )  # the student's copy: sentence-transformers sets its own again at every call

    said, index = generated(config.meanings, config.wordings, config.seed)
    real = [t for t in read_texts(corpus) if allowed(t)]
    tests = sorted(set(read_texts(unseen)) - set(real)) if unseen else []
    known = tokenizer.get_vocab(with_added_tokens=False)
    whole = sorted(w for w in known if w.isascii() and w.isalpha() and len(w) > 1)
    loose = generic(whole, config.seed)
    triples = [t for triple in rank_sets(2000, config.seed + 1) for t in triple]
    texts = {"said": said, "real": real, "generic": loose, "unseen": tests, "rank": triples}

    store = Path(cache) if cache else None
    kept: dict[str, Any] = torch.load(store, weights_only=True) if store and store.exists() else {"name": name}
    if kept["name"] != name:
        raise ValueError(f"{store}: holds the vectors of {kept['name']}, not of {name}; give another cache file")
    row = {t: i for i, t in enumerate(kept.get("texts", ()))}
    new = sorted({t for v in texts.values() for t in v if t not in row})
    if new or not row:
        fresh = model.encode(new, "corpus")
        row.update({t: len(row) + i for i, t in enumerate(new)})
        kept["vectors"] = torch.cat((kept["vectors"], fresh)) if "vectors" in kept else fresh
        if "words" not in kept:
            kept["words"] = model.words()
        if store:
            torch.save({**kept, "texts": list(row)}, store)
    vectors = {k: kept["vectors"][[row[t] for t in v]] for k, v in texts.items() if v} | {"words": kept["words"]}
    tokens = {k: tokenise(plain, v, shape.max_tokens) for k, v in texts.items()}
    blind = torch.zeros(len(model.table), dtype=torch.bool)
    blind[[i for w, i in known.items() if RESERVED.search(w)]] = True

    net = PocketNet(shape)
    with torch.no_grad():
        net.table.weight.copy_(factorised(model.table, vectors["words"], blind, shape.rank))
        torch.nn.init.orthogonal_(net.widen.weight)
        sample = torch.randperm(len(loose))[:12000]
        pooled = torch.cat([net.pool(crop(tokens[k][i])) for k, i in (("generic", s) for s in sample.split(512))])
        pooled = torch.cat((pooled, net.pool(crop(tokens["real"]))))
        target = torch.cat((vectors["generic"][sample], vectors["real"])).float()
        x = torch.cat((pooled, torch.ones(len(pooled), 1)), 1)
        fit = torch.linalg.solve(
            x.T @ x + 0.05 * len(x) * torch.eye(x.shape[1]), x.T @ target
        )  # ridge: bag of words to expression
        net.head.weight.copy_(fit[:-1].T)
        net.head.bias.copy_(fit[-1])
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{TOKENIZER_FILE}.{os.getpid()}.part"
    part.write_text(plain.to_str(pretty=False), encoding="utf-8")
    os.replace(part, folder / TOKENIZER_FILE)
    if (Path(teacher) / "LICENSE").is_file():
        shutil.copyfile(Path(teacher) / "LICENSE", folder / "LICENSE.teacher")
    (folder / "NOTICE").write_text(
        f"The weights in {WEIGHTS_FILE} were started from the token table of {name} and taught by it; {TOKENIZER_FILE} "
        "is its tokenizer. The teacher's licence stands in LICENSE.teacher where its folder held one.\n",
        encoding="utf-8",
    )
    train(net, {k: (tokens[k], vectors[k]) for k in ("said", "real", "generic")}, index, config, folder / WEIGHTS_FILE)

    save_pocket(net, folder / WEIGHTS_FILE)
    stored = load_pocket(folder / WEIGHTS_FILE)  # measure what was written, in half precision
    record: dict[str, object] = {
        "teacher": name,
        "parameters": sum(p.numel() for p in stored.parameters()),
        "bytes": {f: (folder / f).stat().st_size for f in (WEIGHTS_FILE, TOKENIZER_FILE)},
        "texts": {k: len(v) for k, v in texts.items()},
        "agreement": {
            k: agreement(embed(stored, tokens[k]), vectors[k])
            for k in ("unseen", "real", "said", "generic")
            if texts[k]
        },
        "ranking": {
            "student": ranking(embed(stored, tokens["rank"]).view(-1, 3, shape.out)),
            "teacher": ranking(vectors["rank"].view(-1, 3, shape.out)),
        },
        "distill": asdict(config),
        "shape": asdict(shape),
        "seconds": round(time.perf_counter() - started),
    }
    part = folder / f".record.{os.getpid()}.part"
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(part, folder / "record.json")
    return record


def main(args: dict[str, str]) -> None:
    """Run `optisar distill key=value …`.

    Args:
        args: `corpus`, `teacher`, `out`, and as wanted `unseen`, `cache` and any field of `DistillConfig`. Several
            files: split by commas.

    Raises:
        ValueError: a key is missing, unknown or not a number; the message says which.
    """
    rest = dict(args)
    missing = [k for k in ("corpus", "teacher", "out") if not rest.get(k)]
    if missing:
        raise ValueError(
            f"optisar distill needs {', '.join(k + '=' for k in missing)}: corpus=FILES teacher=MODEL out=FOLDER"
        )
    corpus, teacher, out = rest.pop("corpus").split(","), rest.pop("teacher"), rest.pop("out")
    unseen, cache = rest.pop("unseen", None), rest.pop("cache", None)
    default = asdict(DistillConfig())
    unknown = sorted(set(rest) - set(default))
    if unknown:
        raise ValueError(f"optisar distill does not know {', '.join(unknown)}; it takes {', '.join(default)}")
    try:
        chosen = {k: type(default[k])(v) for k, v in rest.items()}
    except ValueError as e:
        raise ValueError(f"optisar distill: {e}") from e
    record = distill(corpus, teacher, out, unseen.split(",") if unseen else None, DistillConfig(**chosen), cache=cache)
    print(
        json.dumps(
            {k: record[k] for k in ("parameters", "bytes", "texts", "agreement", "ranking", "seconds")}, indent=1
        )
    )
