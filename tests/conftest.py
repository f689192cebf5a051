"""Which tests run: what is off unless asked for, and what needs a browser or a broker."""

import os
import shutil
from collections.abc import Generator

# Before anything that computes in threads: their models are too small to share, and threads that spin while they wait
# for each other take minutes on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from hypothesis import settings

import kafka_dev

ON_REQUEST = ("slow", "gpu")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
KAFKA = os.environ.get("HEADWATER_TEST_KAFKA", "")
REQUIRED = {"browser": os.environ.get("HEADWATER_TEST_BROWSER") == "required", "kafka": KAFKA == "required"}

settings.register_profile("headwater", deadline=None)  # a busy machine is no failure
settings.load_profile("headwater")


def installed_browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser that tests marked `browser` drive."""
    path = installed_browser()
    assert path is not None, "tests that use this fixture carry the marker browser"
    return path


def no_kafka(markexpr: str) -> str | None:
    """Why tests with a broker do not run; None where they do."""
    if KAFKA not in ("1", "required") and "kafka" not in markexpr:
        return "kafka tests run when asked for: pytest -m kafka, or HEADWATER_TEST_KAFKA=1"
    reason = kafka_dev.why_not()
    return f"no broker: {reason}" if reason else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    browser = installed_browser()
    for item in [one for one in items if one.get_closest_marker("kafka")]:
        if (reason := no_kafka(config.option.markexpr)) is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
    for item in items:
        for name in ON_REQUEST:
            if item.get_closest_marker(name) and name not in config.option.markexpr:
                item.add_marker(pytest.mark.skip(reason=f"{name} tests run when asked for: pytest -m {name}"))
        if item.get_closest_marker("browser") and browser is None:
            item.add_marker(pytest.mark.skip(reason=f"no browser: none of {', '.join(BROWSERS)} is installed"))


def left_out(item: pytest.Item) -> bool:
    """Whether a test runs only when asked for, and was not."""
    asked = str(item.config.option.markexpr)
    return any(item.get_closest_marker(name) and name not in asked for name in ON_REQUEST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for name, required in REQUIRED.items():
        if required and report.skipped and item.get_closest_marker(name) and not left_out(item):
            report.outcome = "failed"
            report.longrepr = f"HEADWATER_TEST_{name.upper()}=required, but the test was skipped: {report.longreprtext}"
    return report
