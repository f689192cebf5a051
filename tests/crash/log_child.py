"""The process that the crash tests kill: `log_child.py append|count FILE [FIRST]`.

append: four threads append numbered records; a number is printed once its record is acknowledged.
count: counts the records of each key in a table and sends one derived record for each, while
another thread appends more; a dot is printed after every commit.
"""

import os
import random
import sys
from collections import Counter
from itertools import count
from pathlib import Path
from threading import Lock, Thread

from core.settings import LogSettings
from streams.log import EmbeddedLog, Entry, New

THREADS = 4
KEYS = 9


def numbered(number: int) -> New:
    """The record of a number, always the same one."""
    return New("clickstream", b"key %d" % (number % KEYS), b"%d" % number, number, f"event {number}")


def append(log: EmbeddedLog, first: int) -> None:
    numbers, lock = count(first), Lock()

    def work(thread: int) -> None:
        chance = random.Random(thread)
        while True:
            with lock:
                mine = [next(numbers) for _ in range(chance.randint(1, 5))]
            log.append([numbered(number) for number in mine])
            os.write(1, "".join(f"{number}\n" for number in mine).encode())

    for thread in range(THREADS):
        Thread(target=work, args=(thread,)).start()


def count_keys(log: EmbeddedLog) -> None:
    Thread(target=_feed, args=(log,)).start()
    chance = random.Random(1)
    after = log.positions("counter")
    counts = Counter({key: int(value) for key, value in log.table("counts")})
    while True:
        entries = log.read_all(["clickstream"], after, chance.randint(1, 40))
        after |= {(entry.topic, entry.partition): entry.offset for entry in entries}
        counts.update(entry.key for entry in entries)
        changed = {entry.key: b"%d" % counts[entry.key] for entry in entries}
        log.commit(
            "counter", positions=after, tables={"counts": changed}, outputs=[derived(entry) for entry in entries]
        )
        os.write(1, b".\n")


def derived(entry: Entry) -> New:
    """What the counter makes of a record: one that names where it came from."""
    return New("derived", entry.key, b"%d/%d" % (entry.partition, entry.offset), entry.ts)


def _feed(log: EmbeddedLog) -> None:
    for number in count(sum(last + 1 for (topic, _), last in log.ends().items() if topic == "clickstream")):
        log.append([numbered(number)._replace(event_id="")])


if __name__ == "__main__":
    opened = EmbeddedLog.open(LogSettings(path=Path(sys.argv[2])))
    if sys.argv[1] == "append":
        append(opened, int(sys.argv[3]))
    else:
        count_keys(opened)
