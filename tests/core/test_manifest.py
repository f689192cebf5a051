"""An artefact knows how far into the log it has looked."""

import msgspec
import pytest

from core.errors import FutureLeak
from core.manifest import EncoderReference, FeatureSchema, Manifest, check_not_newer

MANIFEST = Manifest(
    id="20231114T221320000Z-0123456789abcdef0123",
    created_ms=1_700_000_000_000,
    space_id="s",
    encoder=EncoderReference("none", ""),
    text={},
    user_vector={},
    features=FeatureSchema(),
    max_event_time=1_000,
    ranker="blend",
    metrics={},
    files={},
)


def test_a_bundle_answers_questions_of_its_own_time_and_later() -> None:
    check_not_newer(MANIFEST, 1_000)
    check_not_newer(MANIFEST, 1_001)


def test_a_bundle_that_knows_the_future_is_stopped() -> None:
    with pytest.raises(FutureLeak, match="has seen events up to 1000, and is asked about 999"):
        check_not_newer(MANIFEST, 999)
    check_not_newer(msgspec.structs.replace(MANIFEST, max_event_time=999), 999)


def test_the_hash_of_a_schema_depends_on_names_and_order() -> None:
    schema = FeatureSchema.of(("views", "price"))
    assert schema == FeatureSchema.of(("views", "price"))
    others = [FeatureSchema.of(names) for names in (("price", "views"), ("views",), ("viewsprice",))]
    assert len({schema.hash, *[other.hash for other in others]}) == 4


def test_published_weights_are_written_down_as_ever_so_that_older_bundles_keep_their_ids() -> None:
    assert msgspec.json.encode(EncoderReference("minilm", "53aa")) == b'{"name":"minilm","weights_sha256":"53aa"}'
    trained = EncoderReference("4a1f", "53aa", "minilm")
    assert msgspec.json.decode(msgspec.json.encode(trained), type=EncoderReference) == trained
