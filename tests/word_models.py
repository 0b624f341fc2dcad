"""Small models that find words, with random weights, saved as the hub would give them, tokenizer files included."""

from __future__ import annotations

from pathlib import Path

from napari_samdepth.models.runtime.device import transformers_module

WORDS = ("nucleus", "coin", "round", "thing", "the", "dark", "##s")


def _bert_vocabulary() -> dict[str, int]:
    """Numbers as in BERT's own: Grounding DINO knows those of the marks and full stops by heart."""
    pieces = [f"[unused{number}]" for number in range(1040)]
    for number, piece in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: "."}.items():
        pieces[number] = piece
    pieces[200 : 200 + len(WORDS)] = WORDS
    return {piece: number for number, piece in enumerate(pieces)}


def save_grounding_dino(folder: Path) -> Path:
    """Write a Grounding DINO of 48 queries, inputs of 128 pixels, and its processor."""
    transformers = transformers_module()
    import torch

    torch.manual_seed(3)
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_indices=[2, 3, 4]
        ),
        text_config=transformers.BertConfig(
            vocab_size=1040, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
        ),
        num_queries=48, encoder_layers=2, decoder_layers=2, d_model=32, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
    )  # fmt: skip
    model = transformers.GroundingDinoForObjectDetection(config).eval()
    _shake(model)
    model.save_pretrained(folder)
    images = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 192})
    tokenizer = transformers.BertTokenizer(vocab=_bert_vocabulary())
    transformers.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    images.save_pretrained(folder)  # the hub has it in a file of its own
    return folder


def save_sam3(folder: Path) -> Path:
    """Write a SAM 3 of 12 queries, inputs of 112 pixels, and its processor."""
    transformers = transformers_module()
    import torch

    torch.manual_seed(4)
    side, width = 112, 32
    cells = side // 14
    small = {"hidden_size": width, "num_attention_heads": 2, "intermediate_size": 32}
    layered = {**small, "num_layers": 2}
    parts = transformers.models.sam3.configuration_sam3
    config = transformers.Sam3Config(
        vision_config=transformers.Sam3VisionConfig(
            backbone_config=transformers.Sam3ViTConfig(
                **small, num_hidden_layers=2, image_size=side, window_size=4, global_attn_indexes=[1],
                pretrain_image_size=side,
            ),
            fpn_hidden_size=width,
            backbone_feature_sizes=[[cells * 4] * 2, [cells * 2] * 2, [cells] * 2],
        ),
        text_config=transformers.CLIPTextConfig(
            **small, vocab_size=600, num_hidden_layers=2, max_position_embeddings=32, projection_dim=16,
            bos_token_id=598, eos_token_id=599,
        ),
        geometry_encoder_config=parts.Sam3GeometryEncoderConfig(**layered),
        detr_encoder_config=parts.Sam3DETREncoderConfig(**layered),
        detr_decoder_config=parts.Sam3DETRDecoderConfig(**layered, num_queries=12),
        mask_decoder_config=parts.Sam3MaskDecoderConfig(
            hidden_size=width, num_attention_heads=2
        ),
    )  # fmt: skip
    model = transformers.Sam3Model(config).eval()
    _shake(model)
    model.save_pretrained(folder)
    images = transformers.Sam3ImageProcessor(size={"height": side, "width": side})
    transformers.Sam3Processor(images, _clip_tokenizer()).save_pretrained(folder)
    return folder


def _clip_tokenizer() -> object:
    """A byte-pair tokenizer over letters alone, in CLIP's format."""
    transformers = transformers_module()
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += [f"<unused{number}>" for number in range(598 - len(pieces))]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[])


def _shake(model: object) -> None:
    """Move all weights away from where they begin, which makes every answer the same."""
    import torch

    assert isinstance(model, torch.nn.Module)
    for parameter in model.parameters():
        parameter.data += 0.15 * torch.randn_like(parameter)
