"""Writes folders of small Grounding DINO and OWLv2 models with random weights, as the released ones are laid out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = ("the", "sar", "ship", "optical", "airplane", "in", "upper", "lower", "left", "right", "corner", "of", "image")


def tokenizer(start: tuple[str, int], end: tuple[str, int], pad: str, vocabulary: dict[str, int], **how: Any) -> Any:
    """A tokenizer of whole words, with a token before and after each text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({**vocabulary, start[0]: start[1], end[0]: end[1]}, unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single=f"{start[0]} $A {end[0]}", special_tokens=[start, end])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token=pad, unk_token="[UNK]", bos_token=start[0], eos_token=end[0], **how
    )


def grounding_dino(folder: Path) -> Path:
    """Grounding DINO: 40 queries, images of 64 pixels; ids of the special tokens and the full stop are BERT's."""
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    small = {"encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], window_size=4,
            out_indices=[2, 3, 4],
        ),
        text_config=BertConfig(
            vocab_size=1040, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        ),
        num_queries=40, d_model=32, encoder_ffn_dim=32, decoder_ffn_dim=32, max_text_len=24,
        disable_custom_kernels=True, **small,
    )  # fmt: skip
    model = GroundingDinoForObjectDetection(config)
    with torch.no_grad():  # boxes start alike: move them apart
        for name, p in model.named_parameters():
            if "bbox_embed" in name or "text_param" in name or "vision_param" in name:
                p += 0.5 * torch.randn_like(p)
        model.model.decoder.layer_norm.weight.mul_(0.2)  # scores that differ: by default all are near 1
    words = {"[PAD]": 0, "[UNK]": 100, ".": 1012, "?": 1029} | {w: 200 + i for i, w in enumerate(WORDS)}
    names = ["input_ids", "token_type_ids", "attention_mask"]
    text = tokenizer(("[CLS]", 101), ("[SEP]", 102), "[PAD]", words, model_input_names=names)
    images = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    model.save_pretrained(folder)
    GroundingDinoProcessor(images, text).save_pretrained(folder)
    return folder


def owlv2(folder: Path) -> Path:
    """OWLv2: 8 x 8 patches of an image of 64 pixels, 16 tokens a query."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"pad_token_id": 0, "bos_token_id": 98, "eos_token_id": 99}
    config = Owlv2Config(
        text_config={**shape, **ids, "vocab_size": 100, "max_position_embeddings": 16},
        vision_config={**shape, "image_size": 64, "patch_size": 8},
        projection_dim=32,
    )
    model = Owlv2ForObjectDetection(config)
    with torch.no_grad():  # scores that differ: by default all are near 1
        for linear, bias in ((model.class_head.logit_shift, 0.0), (model.class_head.logit_scale, 1.0)):
            linear.weight.zero_()
            linear.bias.fill_(bias)
    words = {"!": 0, "[UNK]": 1} | {w: 10 + i for i, w in enumerate(WORDS)}
    text = tokenizer(("<s>", 98), ("</s>", 99), "!", words, model_max_length=16)
    images = Owlv2ImageProcessor(size={"height": 64, "width": 64})
    model.save_pretrained(folder)
    Owlv2Processor(images, text).save_pretrained(folder)
    return folder
