"""What can go wrong, by who has to act.

HeadwaterError
├── BadInput          the caller sent something wrong        → 4xx, dead letter
│   └── BadSettings   the operator wrote something wrong     → the process does not start
├── Missing           a file, bundle or package is not there → fall back, or say what to install
├── Unavailable       the log cannot take writes now         → 503 with Retry-After
└── Broken            an invariant of ours does not hold     → stop; never log and go on
    ├── SpaceMixed        vectors of two spaces met
    ├── FutureLeak        an artefact is newer than the moment it is used for
    └── Corrupt           a file does not have the checksum its manifest names
"""

from __future__ import annotations


class HeadwaterError(Exception):
    """Everything this product raises on purpose."""


class BadInput(HeadwaterError):
    """Input that cannot be used; the text says what was got and what was wanted."""


class BadSettings(BadInput):
    """A setting that is unknown, of the wrong type or out of range."""


class Missing(HeadwaterError):
    """Something that has to be there is not; the text says how to get it."""


class Unavailable(HeadwaterError):
    """The log cannot take the write now; nothing was accepted and a retry is right."""


class Broken(HeadwaterError):
    """An invariant does not hold: a defect or damaged files, never the caller's fault."""


class SpaceMixed(Broken):
    """Vectors of two encoders (or templates) were about to be compared."""


class FutureLeak(Broken):
    """An artefact has seen events newer than the moment it is asked about."""


class Corrupt(Broken):
    """A file's checksum differs from its manifest's."""
