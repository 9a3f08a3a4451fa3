"""The operator's settings of a Capsule: `capsule.toml` in its home, the environment above it, flags above both.

Each setting NAME is the environment variable SONAR_CAPSULE_NAME too; numbers and booleans are written there as in TOML,
lists so too or with commas. The passphrase is no setting: it has its own file, variable or prompt, and is never shown.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from capsule.policy import LEAST_JUDGE_MEMORY, Policy
from sonar.errors import ConfigError
from sonar.units import Wei
from sonar.wording import wording

__all__ = ["FILE", "Settings", "shown_url"]

FILE = "capsule.toml"
_PREFIX = "SONAR_CAPSULE_"
_EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104  (named, not listened on)
_OTHERS = {"HOME", "PASSPHRASE", "NEW_PASSPHRASE", "BACKUP_PASSPHRASE"}
"""Variables with this prefix that are no settings."""
_FLAGS = {"trusted_proxies": "trusted_proxy"}
"""Flags that are not called like their settings."""
_GWEI = 10**9
_DAY = 86_400


def shown_url(database: str) -> str:
    """A database's URL for people: neither password nor options."""
    return make_url(database).set(query={}).render_as_string(hide_password=True)


def _database(text: str) -> str:
    try:
        kind = make_url(text).get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise ValueError("not a database's URL: write it like postgresql://user@host/name") from error
    if kind not in {"postgresql", "sqlite"}:
        raise ValueError("databases are sqlite:///FILE and postgresql://user@host/name")
    return text


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        raise ValueError(f"must be an address or a network, such as 10.0.0.0/8: {error}") from error
    return text


Port = Annotated[int, Field(ge=0, le=65_535)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Days = Annotated[float, Field(ge=0, le=36_500)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseModel):
    """Everything that an operator may choose; strict, and nothing else is taken."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    database: Annotated[str, AfterValidator(_database)] | None = None
    """Where everything is kept: a URL of SQLAlchemy; by default the file `capsule.db` in the home. One with a password
    in it is a secret: keep the file private, or use the environment or a PostgreSQL password file."""
    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    """The address to listen on."""
    port: Port = 8700
    """The port of the API; 0 takes a free one."""
    metrics_host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    """The address on which metrics are told; not one that strangers reach."""
    metrics_port: Port | None = None
    """The port of the metrics, 0 for a free one; without it there are none."""
    trusted_proxies: Annotated[
        tuple[Annotated[str, AfterValidator(_network)], ...], Field(max_length=64, strict=False)
    ] = ()
    """Addresses or networks of proxies in front, whose X-Forwarded-For is believed."""
    log_format: Literal["text", "json"] = "text"
    """How the log is written: lines for people, or a JSON object a line."""
    poll: Annotated[float, Field(ge=0.05, le=3600)] = 1.0
    """Seconds between two looks at the chain."""
    requests_per_minute: Count = 1200
    """How many requests are taken from one address (of IPv6 one /64)."""
    signed_per_minute: Count = 60
    """How many signed requests are taken from one account."""
    concurrency: Annotated[int, Field(ge=8, le=1024)] = 128
    """How many connections are held at once."""
    keys_per_hour: Count = 16
    """How many Paillier keys one account gets; each admits one model, which tells its score."""
    failed_admissions_per_hour: Count = 20
    """How many admissions of one account may fail, until it must wait for the end of the hour."""
    require_funds: bool = True
    """Whether an account must hold native coin to get a key."""
    spare_keys: Annotated[int, Field(ge=1, le=1000)] = 4
    """How many keys are kept ready; half of them are for rounds, which wait for no request."""
    admission_seconds: Annotated[int, Field(ge=60, le=30 * _DAY)] = 3600
    """How long an admission can be used to create its campaign."""
    fetch_seconds: Seconds = 60.0
    """How long a gradient of a closed round may be missing before it is unavailable."""
    confirmations: Annotated[int, Field(ge=0, le=1000)] | None = None
    """How many blocks an event must be deep before it counts; by default what suits the chain."""
    replace_seconds: Seconds = 90.0
    """How long a transaction may wait before it is sent again with higher fees."""
    highest_fee_gwei: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """The most to pay for a unit of gas; above it settlements wait."""
    campaigns_at_once: Annotated[int, Field(ge=1, le=256)] = 4
    """How many campaigns are served side by side."""
    judge_processes: Annotated[int, Field(ge=0, le=256)] = 0
    """How many processes open and judge gradients; 0: one a core."""
    judge_memory_mib: Annotated[int, Field(ge=LEAST_JUDGE_MEMORY >> 20, le=1 << 20)] = 4096
    """The address space that each of them may have, in MiB: enough for the largest round that is admitted, or more."""
    judge_seconds: Seconds = 600.0
    """How long one of their jobs may take."""
    retention_days: Days = 30.0
    """How long keys, validation set and weights of a campaign are kept after its delivery."""
    abandoned_days: Days = 365.0
    """How long they are kept after the end of a campaign whose model nobody fetched."""

    @classmethod
    def load(cls, home: Path, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Self:
        """The settings of the Capsule in `home`; `flags` that are None were not given.

        Raises ConfigError that names where a wrong value stands: the file and its line, the variable, or the flag.
        """
        file = home / FILE
        text, values = _read(file)
        variables = {name: environment[_PREFIX + name.upper()] for name in cls.model_fields
                     if _PREFIX + name.upper() in environment}  # fmt: skip
        values.update({name: _from_environment(name, value) for name, value in variables.items()})
        given = {name: value for name, value in flags.items() if value is not None}
        values.update(given)
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = [str(part) for part in problem["loc"]] or ["file"]
            if place[0] in given:
                where = f"--{_FLAGS.get(place[0], place[0]).replace('_', '-')}"
            elif place[0] in variables:
                where = _PREFIX + place[0].upper()
            else:
                where = f"{file}{_line(text, place[0])}: {place[0]}"
            if problem["type"] == "extra_forbidden":
                raise ConfigError(f"{where}: there is no such setting; `capsule config` lists them") from error
            shown = "" if place[0] == "database" else f" (got {_short(problem['input'])})"
            entry = f"entry {int(place[1]) + 1} " if place[1:] and place[1].isdigit() else ""
            raise ConfigError(f"{where} is not valid: {entry}{wording(problem)}{shown}") from error
        if settings.database is not None and "database" in given and make_url(settings.database).password:
            raise ConfigError(
                f"--database holds a password, which everybody on this machine can see: set {_PREFIX}DATABASE instead"
            )
        settings._check_ports()
        if "database" not in {*given, *variables}:
            _check_private(file, settings.database)
        return settings

    def _check_ports(self) -> None:
        hosts = {self.host, self.metrics_host}
        if self.port and self.port == self.metrics_port and (len(hosts) == 1 or hosts & _EVERYWHERE):
            raise ConfigError(f"port and metrics_port are both {self.port}: choose another metrics_port")

    @classmethod
    def unknown(cls, environment: Mapping[str, str]) -> list[str]:
        """A sentence about each variable that looks like a setting and is none.

        No error: Kubernetes sets such variables for a service of this name.
        """
        known = {_PREFIX + name.upper() for name in cls.model_fields} | {_PREFIX + name for name in _OTHERS}
        told = []
        for name in sorted(name for name in environment if name.startswith(_PREFIX) and name not in known):
            near = get_close_matches(name, sorted(known), 1, 0.8)
            meant = f": did you mean {near[0]}?" if near else "; `capsule config` lists them"
            told.append(f"{name} is ignored, because there is no such setting{meant}")
        return told

    def policy(self) -> Policy:
        """The limits that service and worker keep."""
        return Policy(
            admission_seconds=self.admission_seconds,
            keys_per_hour=self.keys_per_hour,
            failed_admissions_per_hour=self.failed_admissions_per_hour,
            require_funds=self.require_funds,
            spare_keys=self.spare_keys,
            fetch_seconds=self.fetch_seconds,
            confirmations=self.confirmations,
            replace_seconds=self.replace_seconds,
            highest_fee=Wei(self.highest_fee_gwei * _GWEI),
            campaigns_at_once=self.campaigns_at_once,
            judge_processes=self.judge_processes,
            judge_memory=self.judge_memory_mib << 20,
            judge_seconds=self.judge_seconds,
            retention_seconds=self.retention_days * _DAY,
            abandoned_seconds=self.abandoned_days * _DAY,
        )

    def shown(self) -> dict[str, Any]:
        """The settings without secrets: of a database's URL neither password nor options."""
        values = self.model_dump(mode="json")
        if self.database is not None:
            values["database"] = shown_url(self.database)
        return values

    def toml(self) -> str:
        """The settings as a file that may be pasted back, with a comment at each that is at its default."""
        lines = []
        for name, value in self.shown().items():
            if value is None:
                lines.append(f"# {name} is not set")
            elif name == "database" and value != self.database:
                lines.append(f"# {name} = {json.dumps(value)}  # its password and options are not shown")
            else:
                default = "  # default" if getattr(self, name) == type(self).model_fields[name].default else ""
                lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}{default}")
        return "\n".join(lines) + "\n"

    @classmethod
    def template(cls) -> str:
        """A settings file with everything explained and commented out at its default."""
        lines = ["# What this Capsule does. Remove the # before a setting to change it."]
        for name, field in cls.model_fields.items():
            description = [f"# {line}" for line in str(field.description).splitlines()]
            value = "" if field.default is None else json.dumps(field.default)
            lines += ["", *description, f"# {name} = {value}".rstrip()]
        return "\n".join(lines) + "\n"


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except FileNotFoundError:
        return "", {}
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error


def _check_private(file: Path, database: str | None) -> None:
    """Raises ConfigError for a file that holds the database's password where others can read it."""
    if database is not None and make_url(database).password and os.name == "posix" and file.stat().st_mode & 0o077:
        raise ConfigError(f"{file} holds the database's password, and others can read it: chmod 600 it")


def _from_environment(name: str, text: str) -> Any:
    """A variable's value: text where it is not TOML, as it stands for settings that are text."""
    if name in {"database", "host", "metrics_host", "log_format"}:
        return text
    if name == "trusted_proxies" and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _line(text: str, name: str) -> str:
    """`:LINE` of a top-level setting, if it is found."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(rf"\s*\[?\s*[\"']?{re.escape(name)}\b", line):
            return f":{number}"
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
