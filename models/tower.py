"""An encoder that learns: texts of a catalogue to unit vectors, with gradients for the part that a rung names.

full    all weights
top     the upper layers; what the lower ones give is computed once and kept
lora    adapters beside the query and value matrices of all layers (`models.lora`)
head    one linear layer on what the frozen encoder gives, computed once and kept
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from core.errors import BadSettings
from core.settings import EncoderSettings, TuningSettings
from models.augment import Dropper
from models.encoder import device_of, dtype_of, load, pool
from models.head import Head
from models.lora import adapt
from models.pairs import Rows
from models.vectors import Progress, Vectors
from models.weights import locate, pooling

BATCH: Final = 64  # texts of like length that go through the layers together


class Tower:
    """The encoder and the texts it learns on, which are known by their row.

    What is kept of the lower layers is in memory: 800 bytes a token of a model of 384 numbers.

    Args:
        encoder: which model, and where it computes.
        tuning: the rung, and how the layers that learn drop.
        texts: of the catalogue.
        progress: told of texts that went through the frozen part.

    Raises:
        Missing, Corrupt: the model cannot be had or read.
        BadSettings: it is none of the BERT family, or has too few layers.
    """

    def __init__(
        self, encoder: EncoderSettings, tuning: TuningSettings, texts: Sequence[str], progress: Progress | None = None
    ) -> None:
        self.folder = locate(encoder.model)
        self.device = device_of(encoder.device)
        fast = dtype_of(encoder.dtype, self.device) is torch.bfloat16
        self._autocast: AbstractContextManager[Any] = (
            torch.autocast(self.device, torch.bfloat16) if fast else nullcontext()
        )
        tokenizer, self.model = load(self.folder, self.device, torch.float32)
        self.pooling, self.rung = pooling(self.folder), tuning.rung
        self.dim = int(self.model.config.hidden_size)
        self.head = (Head.beside(self.folder, self.dim) or Head(self.dim)).to(self.device)
        layers = _layers(self.model)
        self.frozen = _frozen(tuning, len(layers))
        self._tokens = _Ragged.of(_token_ids(tokenizer, texts, encoder.max_tokens))
        self._dropper = Dropper.of(tuning.augment, tokenizer)
        self._prepare(tuning)
        self._kept = self._below(progress) if self.frozen >= 0 else None

    def _prepare(self, tuning: TuningSettings) -> None:
        """Let learn what the rung names, and nothing else."""
        self.model.requires_grad_(requires_grad=self.rung == "full")
        self.head.requires_grad_(requires_grad=self.rung == "head")
        if self.rung == "top":
            for layer in _layers(self.model)[self.frozen :]:
                layer.requires_grad_(requires_grad=True)
        elif self.rung == "lora":
            adapt(self.model, tuning.rank)
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = tuning.dropout

    def learning(self) -> dict[str, nn.Parameter]:
        """What learns, by name."""
        named: Iterator[tuple[str, nn.Parameter]] = self.model.named_parameters()
        every = {**dict(named), **{f"head.{name}": one for name, one in self.head.named_parameters()}}
        # the pooler of a BERT is not read
        return {name: one for name, one in every.items() if one.requires_grad and not name.startswith("pooler.")}

    def __len__(self) -> int:
        return len(self._tokens)

    def lengths(self, rows: Rows) -> Rows:
        """Tokens of some texts."""
        return self._tokens.lengths[rows]

    def vectors(self, rows: Rows, *, drop_seed: int | None = None) -> Tensor:
        """Unit vectors of some texts, (rows, dim), with gradients where they are switched on.

        Args:
            rows: of the texts; they go through together, so at best of like length.
            drop_seed: drop words, fields and numbers as this seed says; None as the encoder will be used.
        """
        learns = drop_seed is not None
        if drop_seed is not None:
            torch.manual_seed(drop_seed)
        self.model.train(learns)
        with self._autocast:
            pooled = self._pooled(rows, drop_seed)
        return normalize(self.head(pooled.float()))

    def _pooled(self, rows: Rows, drop_seed: int | None) -> Tensor:
        if isinstance(self._kept, Tensor):
            return self._kept[torch.from_numpy(rows).to(self.device)]
        ids, mask = self._tokens.padded(rows)
        kept = mask if drop_seed is None else self._dropper.keep(ids, mask, drop_seed)
        attention = torch.from_numpy(kept).to(self.device)
        if self._kept is None:
            hidden = self.model.embeddings(input_ids=torch.from_numpy(ids).to(self.device))
        else:
            hidden = torch.from_numpy(self._kept.padded(rows)[0]).to(self.device).float()
        start = max(self.frozen, 0)
        return pool(self._through(hidden, attention, start, len(_layers(self.model))), attention, self.pooling)

    def _through(self, hidden: Tensor, attention: Tensor, first: int, last: int) -> Tensor:
        """(batch, tokens, dim) through some layers; `attention` is 0 where nothing is to be read."""
        mask = attention[:, None, None, :].bool().expand(-1, 1, attention.shape[1], -1)
        for layer in _layers(self.model)[first:last]:
            hidden = layer(hidden, mask)
        return hidden.float()

    @torch.no_grad()
    def every(self, progress: Progress | None = None) -> Vectors:
        """Vectors of all texts as the encoder now stands, float32 (texts, dim)."""
        found = np.empty((len(self), self.dim), np.float32)
        for done, rows in self._batches():
            found[rows] = self.vectors(rows).cpu().numpy()
            if progress is not None:
                progress(done, len(self))
        return found

    @torch.no_grad()
    def _below(self, progress: Progress | None) -> Tensor | _Ragged:
        """What the frozen part gives: numbers of each token, or of each text where only the head learns."""
        whole = self.rung == "head"
        vectors = torch.empty((len(self), self.dim)) if whole else torch.empty(0)
        kept = _Ragged(self._tokens.starts, np.empty((int(self._tokens.starts[-1]), self.dim), np.float16))
        self.model.eval()
        for done, rows in self._batches():
            ids, mask = self._tokens.padded(rows)
            attention = torch.from_numpy(mask).to(self.device)
            with self._autocast:
                hidden = self.model.embeddings(input_ids=torch.from_numpy(ids).to(self.device))
                hidden = self._through(hidden, attention, 0, self.frozen)
            if whole:
                vectors[torch.from_numpy(rows)] = pool(hidden, attention, self.pooling).cpu()
            else:
                kept.put(rows, hidden.cpu().numpy())
            if progress is not None:
                progress(done, len(self))
        return normalize(vectors).to(self.device) if whole else kept

    def _batches(self) -> Iterator[tuple[int, Rows]]:
        order = np.argsort(self._tokens.lengths, kind="stable")
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            yield start + len(rows), rows


class _Ragged:
    """Arrays of different lengths one behind the other."""

    def __init__(self, starts: Rows, values: NDArray[Any]) -> None:
        self.starts, self.values = starts, values

    @classmethod
    def of(cls, parts: Sequence[Sequence[int]]) -> _Ragged:
        lengths = [len(part) for part in parts]
        return cls(
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.fromiter((one for part in parts for one in part), np.int64, sum(lengths)),
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Rows:
        return np.diff(self.starts)

    def padded(self, rows: Rows) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """(rows, longest, ...) filled up with zeros, and the mask of what is there."""
        lengths = self.lengths[rows]
        there = np.arange(int(lengths.max(initial=0))) < lengths[:, None]
        at = (self.starts[rows][:, None] + np.arange(there.shape[1]))[there]
        out = np.zeros((*there.shape, *self.values.shape[1:]), self.values.dtype)
        out[there] = self.values[at]
        return out, there.astype(np.int64)

    def put(self, rows: Rows, values: NDArray[Any]) -> None:
        """The opposite of `padded`."""
        for row, one in zip(rows.tolist(), values, strict=True):
            start, end = self.starts[row], self.starts[row + 1]
            self.values[start:end] = one[: end - start]


def _frozen(tuning: TuningSettings, layers: int) -> int:
    """How many lower layers are computed once; -1 where all is computed anew, the embeddings too."""
    if tuning.rung == "head":
        return layers
    if tuning.rung == "top":
        if tuning.layers >= layers:
            raise BadSettings(f"tuning.layers must be below the {layers} layers of the model, got {tuning.layers}")
        return layers - tuning.layers
    return -1


def _layers(model: Any) -> Any:
    found = getattr(getattr(model, "encoder", None), "layer", None)
    if found is None or not hasattr(model, "embeddings"):
        raise BadSettings(f"encoder.model: a {type(model).__name__} cannot be trained here, only the BERT family can")
    return found


def _token_ids(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    longest = min(max_tokens, int(tokenizer.model_max_length))
    encoded = tokenizer(
        list(texts), truncation=True, max_length=longest, return_attention_mask=False, return_token_type_ids=False
    )
    return list(encoded["input_ids"])
