"""A gateway that answers while a test's block runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.client import Client
from gateway.serving import Gateway


@contextmanager
def served(gateway: Gateway, ends_within_s: float = 20) -> Iterator[Client]:
    ready = threading.Event()
    thread = threading.Thread(target=gateway.run, args=(ready.set,), kwargs={"signals": False})
    thread.start()
    try:
        assert ready.wait(20)
        with Client(gateway.url) as client:
            yield client
    finally:
        gateway.stop()
        thread.join(ends_within_s)
    assert not thread.is_alive()
