"""Workers give items vectors of the space that serves, and turn with it."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from core.bundle import Bundles
from core.settings import BundleSettings, EncoderSettings
from jobs.embedding import Embedder
from kafka_dev import Kafka
from streams import topics
from streams.partition import partition_of
from streams.wire import VECTORS, ItemVector, decoders
from tests.jobs.carried import turned, written
from tests.kafka.shop import Worker, eventually, free_port, quick_settings, read, with_worker, write
from tests.models.tiny import tiny_encoder

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


def test_after_a_promotion_every_item_gets_a_vector_of_the_new_space(
    broker: Kafka, prefix: str, tmp_path: Path
) -> None:
    shop = msgspec.structs.replace(
        with_worker(quick_settings(broker.bootstrap, prefix), port=free_port()),
        encoder=EncoderSettings(model=str(tiny_encoder(tmp_path / "base")), cache=tmp_path / "vectors.sqlite"),
        bundles=BundleSettings(path=tmp_path / "bundles"),
    )
    topics.create(shop)
    base, trained = Embedder.open(shop), Embedder.trained(shop, turned(shop))
    assert base is not None

    def spaces() -> dict[str, str]:
        """The space of every item's newest vector."""
        found = dict[str, str]()
        for record in read(shop, [topics.full(shop, VECTORS)]):
            vector: ItemVector = decoders()[VECTORS].decode(record.value)[1]
            found[record.key.decode()] = vector.space_id
        return found

    def sell(*items: str) -> None:
        for one in items:
            change = msgspec.json.encode({"item_id": one, "title": one, "ts": int(time.time() * 1000)})
            place = partition_of(one.encode(), shop.log.partitions)
            write(shop, "items", [(one.encode(), change)], place)

    store = Bundles(shop.bundles.path, 5)
    with Worker(shop, tmp_path):
        sell("tea", "cup")
        eventually(lambda: spaces() == dict.fromkeys(("tea", "cup"), base.space_id))
        store.promote(written(shop, base, 1))
        store.promote(written(shop, trained, 2))
        eventually(lambda: spaces() == dict.fromkeys(("tea", "cup"), trained.space_id))
        sell("kite")
        eventually(lambda: spaces() == dict.fromkeys(("tea", "cup", "kite"), trained.space_id))
        store.rollback()
        eventually(lambda: spaces() == dict.fromkeys(("tea", "cup", "kite"), base.space_id))
