"""An encoder of three small layers with random weights and a vocabulary of letters."""

from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel

untrained: Any = BertModel  # typed in some releases of transformers and untyped in others


def tiny_encoder(folder: Path, layers: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "|", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=24, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=40, pad_token_id=0,
    )  # fmt: skip
    untrained(config).save_pretrained(folder)
    return folder
