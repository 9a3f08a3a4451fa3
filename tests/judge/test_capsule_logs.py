"""The log: an event a line, in fields, and no line that a stranger wrote."""

import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from capsule.logs import configure, fields


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def _fail(words: str) -> None:
    raise ValueError(words)


@pytest.mark.parametrize("kind", ["text", "json"])
@pytest.mark.parametrize(
    "junk", ["a\nb", "a\r\n2026-01-01 INFO capsule: forged", "\x1b[2J", "\u2028x", "\x00", "\u202e"]
)
def test_what_a_stranger_sends_ends_no_line_and_steers_no_terminal(
    kind: str, junk: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(kind)  # type: ignore[arg-type]
    with fields(request=junk):
        logging.getLogger("capsule.test").warning("said %s", junk, extra={"route": junk})
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert len(written.splitlines()) == 1
    assert all(character.isprintable() for character in written.rstrip("\n"))


def test_a_traceback_stays_with_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("text", "json"):
        configure(kind)  # type: ignore[arg-type]
        try:
            _fail("first\n2026-01-01 INFO capsule: forged")
        except ValueError:
            logging.getLogger("capsule.test").exception("failed")
        first, *others = capsys.readouterr().err.splitlines()
        assert "failed" in first
        assert all(line.startswith("    | ") for line in others)
        assert kind == "text" or not others


def test_an_event_in_json_has_its_fields_and_those_around_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    with fields(campaign="ab", round=3), fields(round=4):
        logging.getLogger("capsule.test").info("judged %d", 8, extra={"seconds": 0.5})
    logging.getLogger("capsule.test").info("after")
    inside, after = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", inside["time"])
    assert abs(datetime.fromisoformat(inside.pop("time")) - datetime.now(UTC)) < timedelta(minutes=5)
    assert inside == {
        "level": "INFO", "logger": "capsule.test", "message": "judged 8", "seconds": 0.5, "campaign": "ab", "round": 4,
    }  # fmt: skip
    assert "campaign" not in after


def test_what_a_library_colours_for_terminals_is_not_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("text", "json"):
        configure(kind)  # type: ignore[arg-type]
        logging.getLogger("uvicorn.error").info("on %d", 1, extra={"color_message": "on \x1b[1m%d\x1b[0m"})
        assert "1b[" not in capsys.readouterr().err


def test_an_event_in_text_has_its_fields_behind_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text")
    with fields(campaign="ab"):
        logging.getLogger("capsule.test").info("judged", extra={"round": 4})
    assert capsys.readouterr().err.endswith("INFO capsule.test: judged round=4 campaign=ab\n")
