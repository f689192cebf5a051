"""The body of a POST: read up to a limit, decoded, taken apart, with reasons a person can act on."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request

from gateway.faults import Rejected

KEPT: Final = 4_096  # bytes of a call that could not be taken apart, for the dead letters


async def read(request: Request, limit: int) -> bytes:
    """The whole body; never more than `limit` bytes are held, however much is sent.

    Raises:
        Rejected: 413 when it is longer, 415 when it is compressed.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding not in ("", "identity"):
        raise Rejected(f"the body is {encoding}; send it uncompressed", status=415, code="unsupported")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 15 or int(declared) > limit):
        raise _too_large(f"the body has {declared} bytes", limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk[: limit + 1 - len(body)]
        if len(body) > limit:
            raise _too_large("the body is longer", limit, bytes(body[:KEPT]))
    return bytes(body)


def _too_large(got: str, limit: int, seen: bytes = b"") -> Rejected:
    return Rejected(f"{got}; at most {limit} are accepted in one call", status=413, code="too_large", seen=seen)


def decode(body: bytes) -> Any:
    """The JSON value of a body.

    Raises:
        Rejected: 400, with the position of what is not JSON.
    """
    try:
        return msgspec.json.decode(body)
    except UnicodeDecodeError:
        raise _not_json(f"not UTF-8 (byte {_not_utf8(body)})", body) from None
    except msgspec.DecodeError as error:
        raise _not_json(_plain(error, body), body) from None
    except RecursionError:
        raise _not_json("nested too deep", body) from None


def _plain(error: msgspec.DecodeError, body: bytes) -> str:
    text = str(error).removeprefix("JSON is malformed: ")
    if text == "Input data was truncated":
        return f"it ends before it is complete (byte {len(body)})" if body.strip() else "the body is empty"
    return text


def _not_json(reason: str, body: bytes) -> Rejected:
    return Rejected(f"the body is not JSON: {reason}", code="bad_json", seen=body[:KEPT])


def _not_utf8(body: bytes) -> int:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0


class Batch(msgspec.Struct, frozen=True):
    """The values of a call, and the body they came in."""

    values: list[Any]
    body: bytes
    key: str

    def raws(self) -> list[bytes]:
        """The bytes of each value as they were sent, in order."""
        whole = msgspec.json.decode(self.body)
        if isinstance(whole, list):
            return [bytes(one) for one in msgspec.json.decode(self.body, type=list[msgspec.Raw])]
        if _wraps(whole, self.key):
            inner = msgspec.json.decode(self.body, type=dict[str, msgspec.Raw])[self.key]
            return [bytes(one) for one in msgspec.json.decode(inner, type=list[msgspec.Raw])]
        return [self.body]


def _wraps(whole: object, key: str) -> bool:
    """Whether an object is the envelope of many and not one event, which may have `items` itself."""
    return isinstance(whole, dict) and key in whole and not {"name", "item_id"} & whole.keys()


def batch(body: bytes, key: str, limit: int) -> Batch:
    """Take a call apart: `{key: [...]}`, a bare array, or one object alone.

    Raises:
        Rejected: it is none of these, is empty or holds more than `limit`.
    """
    whole = decode(body)
    values: list[Any]
    if isinstance(whole, list):
        values = whole
    elif not isinstance(whole, dict):
        kind = type(whole).__name__
        raise Rejected(f'the body must be an object, an array or {{"{key}": [...]}}, got {kind}', seen=body[:KEPT])
    elif _wraps(whole, key):
        if beside := sorted(whole.keys() - {key}):
            raise Rejected(f"nothing but {key!r} is known in the envelope, got {beside[0]!r} too", seen=body[:KEPT])
        values = whole[key]
        if not isinstance(values, list):
            raise Rejected(f"{key} must be an array, got {type(values).__name__}", seen=body[:KEPT])
    else:
        values = [whole]
    if not values:
        raise Rejected(f"at least one of {key} is wanted, got none", seen=body[:KEPT])
    if len(values) > limit:
        raise Rejected(
            f"at most {limit} {key} are accepted in one call, got {len(values)}", code="too_many", seen=body[:KEPT]
        )
    return Batch(values, body, key)
