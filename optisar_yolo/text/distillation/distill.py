"""Distillation of the pocket text encoder from a sentence-transformers teacher.

1. Texts: the corpus, generated expressions (:func:`optisar_yolo.language.wording`) and random vocabulary words.
2. The teacher encodes them all; its token table, factorised, initialises the student's.
3. The student is trained to agree with the teacher (one minus cosine), and with a ranking loss where the teacher is
   weak: MiniLM puts "upper left" and "upper right" nearer to each other than two wordings of the same place. Every
   generated expression must be nearer to another wording of its meaning than to any expression of another meaning.
4. The stored weights are measured against the teacher and by the ranking test (:func:`ranking`).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optisar_yolo.language import RESERVED
from optisar_yolo.text.distillation.config import DistillConfig
from optisar_yolo.text.distillation.corpus import allowed, generated, generic, ranking_triples, read_corpus
from optisar_yolo.text.distillation.student import crop, embed, tokenise, train
from optisar_yolo.text.distillation.teacher import Teacher, factorised
from optisar_yolo.text.pocket import TOKENIZER_FILE, WEIGHTS_FILE, PocketConfig, PocketNet, load_pocket, save_pocket
from optisar_yolo.utils import appearing, write_atomic


def distill(
    corpus: str | Path | Sequence[str | Path],
    teacher: str,
    out: str | Path,
    unseen: str | Path | Sequence[str | Path] | None = None,
    config: DistillConfig | None = None,
    shape: PocketConfig | None = None,
    cache: str | Path | None = None,
) -> dict[str, object]:
    """Train a pocket text encoder.

    Args:
        corpus: Training expressions, see :func:`~optisar_yolo.text.distillation.corpus.read_corpus`.
        teacher: A sentence-transformers name or folder with a WordPiece tokenizer.
        out: Folder for ``pocket.safetensors``, ``tokenizer.json`` and ``record.json``.
        unseen: Expressions for measuring the agreement; those that are in `corpus` too are left out.
        config: The settings.
        shape: Shape of the student; vocabulary and output width follow the teacher.
        cache: File for the teacher's vectors, to try several settings without encoding again; not kept if None.

    Returns:
        The record, as written to ``record.json``.

    Raises:
        ValueError: Corpus or teacher cannot be used.
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
    plain = tokenizer.from_str(tokenizer.to_str())  # a copy: sentence-transformers sets its own again at every call
    known = tokenizer.get_vocab(with_added_tokens=False)

    made, index = generated(config.meanings, config.wordings, config.seed)
    real = [t for t in read_corpus(corpus) if allowed(t)]
    texts = {  # the names are keys of record.json
        "said": made,
        "real": real,
        "generic": generic(sorted(w for w in known if w.isascii() and w.isalpha() and len(w) > 1), config.seed),
        "unseen": sorted(set(read_corpus(unseen)) - set(real)) if unseen else [],
        "rank": [t for triple in ranking_triples(2000, config.seed + 1) for t in triple],
    }
    vectors = _teacher_vectors(model, name, texts, Path(cache) if cache else None)
    tokens = {k: tokenise(plain, v, shape.max_tokens) for k, v in texts.items()}

    net = PocketNet(shape)
    blind = torch.zeros(len(model.table), dtype=torch.bool)
    blind[[i for w, i in known.items() if RESERVED.search(w)]] = True
    _initialise(net, model.table, blind, tokens, vectors)
    write_atomic(folder / TOKENIZER_FILE, plain.to_str(pretty=False))
    if (Path(teacher) / "LICENSE").is_file():
        shutil.copyfile(Path(teacher) / "LICENSE", folder / "LICENSE.teacher")
    write_atomic(
        folder / "NOTICE",
        f"The weights in {WEIGHTS_FILE} were initialised from the token table of {name} and distilled from it; "
        f"{TOKENIZER_FILE} is its tokenizer. The teacher's licence is in LICENSE.teacher where its folder had one.\n",
    )
    train(net, {k: (tokens[k], vectors[k]) for k in ("said", "real", "generic")}, index, config, folder / WEIGHTS_FILE)

    save_pocket(net, folder / WEIGHTS_FILE)
    stored = load_pocket(folder / WEIGHTS_FILE)  # measure what was written, in half precision
    measured = [k for k in ("unseen", "real", "said", "generic") if texts[k]]
    record: dict[str, object] = {
        "teacher": name,
        "parameters": sum(p.numel() for p in stored.parameters()),
        "bytes": {f: (folder / f).stat().st_size for f in (WEIGHTS_FILE, TOKENIZER_FILE)},
        "texts": {k: len(v) for k, v in texts.items()},
        "agreement": {k: agreement(embed(stored, tokens[k]), vectors[k]) for k in measured},
        "ranking": {
            "student": ranking(embed(stored, tokens["rank"]).view(-1, 3, shape.out)),
            "teacher": ranking(vectors["rank"].view(-1, 3, shape.out)),
        },
        "distill": asdict(config),
        "shape": asdict(shape),
        "seconds": round(time.perf_counter() - started),
    }
    write_atomic(folder / "record.json", json.dumps(record, indent=1) + "\n")
    return record


def _teacher_vectors(model: Teacher, name: str, texts: dict[str, list[str]], store: Path | None) -> dict[str, Tensor]:
    """Return the teacher's vectors of named lists of texts, and of all tokens as ``words``; the file keeps them.

    Raises:
        ValueError: The file has the vectors of another teacher.
    """
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
            with appearing(store, binary=True) as file:
                torch.save({**kept, "texts": list(row)}, file)
    return {k: kept["vectors"][[row[t] for t in v]] for k, v in texts.items() if v} | {"words": kept["words"]}


@torch.no_grad()
def _initialise(
    net: PocketNet, table: Tensor, blind: Tensor, tokens: dict[str, Tensor], vectors: dict[str, Tensor]
) -> None:
    """Start the student from the teacher: its token table, factorised, and a last layer fitted to its vectors."""
    net.table.weight.copy_(factorised(table, vectors["words"], blind, net.config.rank))
    torch.nn.init.orthogonal_(net.widen.weight)
    sample = torch.randperm(len(tokens["generic"]))[:12000]
    pooled = torch.cat([net.pool(crop(tokens["generic"][part])) for part in sample.split(512)])
    pooled = torch.cat((pooled, net.pool(crop(tokens["real"]))))
    target = torch.cat((vectors["generic"][sample], vectors["real"])).float()
    x = torch.cat((pooled, torch.ones(len(pooled), 1)), 1)
    fit = torch.linalg.solve(x.T @ x + 0.05 * len(x) * torch.eye(x.shape[1]), x.T @ target)  # ridge regression
    net.head.weight.copy_(fit[:-1].T)
    net.head.bias.copy_(fit[-1])


def ranking(triples: Tensor) -> dict[str, float]:
    """Return the shares of triples that are ranked correctly.

    Args:
        triples: Unit vectors [N, 3, D]: expression, paraphrase, variant with one slot changed.

    Returns:
        ``strict``: the expression is nearer to its paraphrase than to its variant. ``choice``: the paraphrase is nearer
        to the expression than to the variant, as grounding a reworded expression needs.
    """
    a, p, s = triples.float().unbind(1)
    ap, as_, ps = (a * p).sum(-1), (a * s).sum(-1), (p * s).sum(-1)
    return {"strict": (ap > as_).float().mean().item(), "choice": (ap > ps).float().mean().item()}


def agreement(student: Tensor, teacher: Tensor) -> dict[str, float]:
    """Return mean and 5th percentile of the cosines between unit vectors [N, D] of student and teacher."""
    cosine = (student.float() * teacher.float()).sum(-1)
    return {"mean": cosine.mean().item(), "p05": cosine.quantile(0.05).item()}
