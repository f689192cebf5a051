"""Texts to unit vectors with a BERT-family encoder (Reimers and Gurevych 2019, Sentence-BERT).

Importing this module takes seconds, as it brings torch: what works on texts or on stored vectors
stays outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from core.errors import Broken, Corrupt, Missing
from core.ids import digest
from core.settings import EncoderSettings, TextSettings
from models.head import Head
from models.kinds import Key, Kind
from models.text import template_hash
from models.vectors import Progress, Vectors
from models.weights import Pooling, locate, pooling, reading_digest, weights_sha256

WEIGHTS: Final = "model.safetensors"
_FEW_TOKENS: Final = 256
_SORTED_BATCHES: Final = 64  # batches tokenised and sorted by length at a time: bounds memory, costs no padding


@dataclass(frozen=True, slots=True)
class Encoder:
    """An opened model. `space_id` names the space of its vectors: only equal ones may be compared.

    The number type is no part of it: bf16 and float32 vectors of a text have a cosine of .9999.
    The token limit is, as it decides what a long text means.
    """

    name: str
    dim: int
    space_id: str
    weights_sha256: str
    pooling: Pooling
    device: str
    dtype: str
    _model: Any
    _kind: Kind
    _head: Head | None
    _batch: int
    _max_tokens: int

    @classmethod
    def open(cls, settings: EncoderSettings, text: TextSettings) -> Encoder:
        """Load the model that the settings name.

        Raises:
            Missing: the model, or the GPU that was asked for, cannot be had.
            Corrupt: its weights cannot be read.
            BadSettings: the template cannot be filled, or the model pools in a way we do not know.
        """
        folder = locate(settings.model)
        device = device_of(settings.device)
        dtype = dtype_of(settings.dtype, device)
        reading = reading_digest(folder)
        kind, model = _opened(folder, (reading, device, str(dtype), str(settings.max_tokens)), device, dtype)
        head = Head.beside(folder, int(model.config.hidden_size))
        weights, rule = weights_sha256(folder), pooling(folder)
        max_tokens = min(settings.max_tokens, int(kind.tokenizer.model_max_length))
        space = ("encoder 1", weights, reading, template_hash(text), rule, str(max_tokens))
        return cls(
            name=settings.model,
            dim=int(model.config.hidden_size),
            space_id=digest(*space),
            weights_sha256=weights,
            pooling=rule,
            device=device,
            dtype=str(dtype).removeprefix("torch."),
            _model=model,
            _kind=kind,
            _head=head.to(device) if head is not None else None,
            _batch=settings.batch,
            _max_tokens=max_tokens,
        )

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """One unit vector a text, row i for `texts[i]`, float32 of shape (n, dim).

        Raises:
            Broken: the model gives what is no number.
        """
        vectors = np.empty((len(texts), self.dim), np.float32)
        step = self._batch * _SORTED_BATCHES
        for start in range(0, len(texts), step):
            tokens = self._tokens(texts[start : start + step])
            order = sorted(range(len(tokens)), key=lambda n: len(tokens[n]), reverse=True)
            for first in range(0, len(order), self._batch):
                rows = order[first : first + self._batch]
                with _threads_for(sum(len(tokens[row]) for row in rows)):
                    vectors[[start + row for row in rows]] = self._forward([tokens[row] for row in rows])
                if progress is not None:
                    progress(start + first + len(rows), len(texts))
        if not np.isfinite(vectors).all():
            raise Broken(f"{self.name} ({self.dtype} on {self.device}) gave vectors with NaN or infinity")
        return vectors

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._kind.tokenizer(
            list(texts), truncation=True, max_length=self._max_tokens,
            return_attention_mask=False, return_token_type_ids=False,
        )  # fmt: skip
        return list(encoded["input_ids"])

    @torch.inference_mode()
    def _forward(self, tokens: list[list[int]]) -> Vectors:
        shape = (len(tokens), max(map(len, tokens)))
        ids = np.full(shape, self._kind.tokenizer.pad_token_id or 0, np.int64)
        mask = np.zeros(shape, np.int64)
        for row, one in enumerate(tokens):
            ids[row, : len(one)] = one
            mask[row, : len(one)] = 1
        attention = torch.from_numpy(mask).to(self.device)
        output = self._model(input_ids=torch.from_numpy(ids).to(self.device), attention_mask=attention)
        hidden = output.last_hidden_state.float()  # (batch, tokens, dim)
        pooled = pool(hidden, attention, self.pooling)
        if self._head is not None:
            pooled = self._head(pooled)
        return np.asarray(normalize(pooled).cpu().numpy(), np.float32)


def pool(hidden: torch.Tensor, attention: torch.Tensor, rule: Pooling) -> torch.Tensor:
    """(batch, tokens, dim) to (batch, dim)."""
    if rule == "cls":
        return hidden[:, 0]
    weights = attention.unsqueeze(-1).float()  # (batch, tokens, 1)
    return (hidden * weights).sum(1) / weights.sum(1)


def _threads_for(tokens: int) -> AbstractContextManager[None]:
    """One thread for a query: several wait for each other, up to half a second on a busy machine."""
    return one_thread() if tokens <= _FEW_TOKENS else nullcontext()


@contextmanager
def one_thread() -> Iterator[None]:
    """What is encoded meanwhile takes one core, in the thread that asks for it."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _opened(folder: Path, key: Key, device: str, dtype: torch.dtype) -> tuple[Kind, Any]:
    """The kind and the model of a folder; raises as `load` does.

    A kind has one token limit: a tokeniser that serves several threads must not change its own.
    """
    kind = Kind.remembered(key)
    if kind is not None and (folder / WEIGHTS).exists():
        with _reading(folder):
            model = kind.model(load_file(folder / WEIGHTS), device, dtype)
        if model is not None:
            return kind, model
    tokenizer, model = load(folder, device, dtype)
    return kind or Kind.of(key, tokenizer, model), model


def load(folder: Path, device: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Tokeniser and model of a folder.

    Raises:
        Missing: it holds no encoder.
        Corrupt: its weights cannot be read.
    """
    quiet: Any = transformers_logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    with _reading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)
    return tokenizer, model.eval().to(device)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise Corrupt(f"the weights in {folder} cannot be read: {error}") from None
    except (OSError, ValueError) as error:
        raise Missing(f"encoder.model: {folder} cannot be opened as an encoder: {error}") from None


def device_of(wanted: str) -> str:
    """The device that a setting means.

    Raises:
        Missing: a GPU was asked for, and there is none.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise Missing('encoder.device is "cuda", but torch sees no GPU here: "auto" or "cpu" needs none')
    return wanted


def dtype_of(wanted: str, device: str) -> torch.dtype:
    """The number type that a setting means."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    fast = torch.cuda.is_bf16_supported() if device == "cuda" else "amx_bf16" in _cpu_flags()
    return torch.bfloat16 if fast else torch.float32


def _cpu_flags() -> str:
    """AVX512-BF16 alone is no reason for bf16: without AMX it takes longer than float32."""
    cpu = Path("/proc/cpuinfo")
    return cpu.read_text() if cpu.exists() else ""
