"""The policy file: `policy.toml` in the mine's home, checked on load, written with every setting explained.

Every setting has a default, so the file may be missing.
"""

import json
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from textwrap import dedent
from typing import Any, Final, Self

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from mine.errors import PolicyError
from mine.policy.lines import line_of
from mine.policy.model import Accept, CommitteeTerms, Data, DatasetTerms, Money, Table, Work
from mine.policy.slips import slip
from mine.privacy.rule import PrivacyRule
from sonar import canonical
from sonar.config import AddressText
from sonar.units import Address
from sonar.wording import wording

__all__ = ["Policy"]

_LARGEST: Final = 1 << 20
_EXAMPLES: Final = {
    "accept.capsules": '["0x..."]', "accept.refuse_capsules": '["0x..."]', "accept.owners": '["0x..."]',
    "accept.refuse_owners": '["0x..."]', "money.tokens": '["0x..."]', "accept.purposes": '["research"]',
    "accept.refuse_purposes": '["advertising"]', "accept.licences": '["CC-BY-4.0"]',
    "accept.refuse_licences": '["proprietary"]', "work.hours": '["22:00-06:00"]', "datasets.owners": '["0x..."]',
    "datasets.refuse_owners": '["0x..."]', "datasets.campaigns": '["0x..."], the full id',
    "datasets.refuse_campaigns": '["0x..."], the full id', "datasets.purposes": '["research"]',
    "committees.members": '["0x...", "0x..."]', "committees.threshold": "2",
}  # fmt: skip
"""What to write for settings whose default is no example."""
_POSITIONS: Final = {
    "true": "on", "on": "on", "yes": "on", "1": "on", "false": "off", "off": "off", "no": "off", "0": "off",
}  # fmt: skip
"""How a switch is called that stands "on" or "off"."""
_HEAD: Final = """\
# What this mine agrees to. Remove the # before a setting to change it. `mine policy show` tells what holds then,
# `mine policy check CAMPAIGN` what that means for a campaign."""
_TABLES: Final = """
# Which campaigns may use one data set, by the name it was added under; a table for each, with any of these lines.
# [datasets.NAME]
# owners = ["0x..."]
# refuse_owners = ["0x..."]
# campaigns = ["0x..."]
# refuse_campaigns = ["0x..."]
# purposes = ["research"]

# A committee of Capsules to trust: who its members are and how many of them must sign.
# [committees.0x...]
# members = ["0x...", "0x...", "0x..."]
# threshold = 2
"""


class Policy(Table):
    """All that a mine's owner decides; see the tables for the settings."""

    accept: Accept = Accept()
    """Whose campaigns to take, and for what."""
    data: Data = Data()
    """What must be true of the records that are trained on."""
    money: Money = Money()
    """What a campaign must pay, and what may be spent and put at stake for it."""
    work: Work = Work()
    """When to work and how hard."""
    privacy: PrivacyRule = PrivacyRule()
    """How far what leaves the mine may depend on a single record: differential privacy."""
    datasets: dict[str, DatasetTerms] = Field(default={}, max_length=1000)
    """Which campaigns may use a data set."""
    committees: dict[AddressText, CommitteeTerms] = Field(default={}, max_length=1000)
    """Which committees of Capsules to trust besides."""

    @classmethod
    def load(cls, path: Path, datasets: Sequence[str] = ()) -> Self:
        """The policy in a TOML file; an empty one holds the defaults, and a missing one nothing at all.

        With the names of the `datasets` that there are, a table for another one is a mistake: whoever misspells a name
        leaves that data set to every campaign. Raises PolicyError that names the file, the line, the setting, its
        value and what to write.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise PolicyError(f"the policy {path} has more than {_LARGEST} bytes: is it the right file?")
            text = data.decode("utf-8-sig")
            values = tomllib.loads(text)
        except FileNotFoundError as error:  # a lost mount, or an editor at work: defaults could allow what it forbade
            raise PolicyError(
                f"there is no policy {path}: put it back, or make an empty file for the defaults"
            ) from error
        except OSError as error:
            raise PolicyError(f"the policy {path} cannot be read: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            at, says = slip(error, text)
            raise PolicyError(f"{path}, line {at}: {says}") from error
        except (UnicodeDecodeError, RecursionError) as error:
            raise PolicyError(f"the policy {path} is not TOML: {error}") from error
        try:
            policy = cls.model_validate(values)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = [str(part) for part in problem["loc"] if part != "[key]"]
            line = line_of(text, problem["loc"])
            where = f"{path}, line {line}" if line else str(path)
            raise PolicyError(f"{where}: {_told(place, problem)}") from error
        if datasets and (strange := policy.without_dataset(datasets)):
            line = line_of(text, ("datasets", strange[0]))
            raise PolicyError(f"{path}, line {line}: {_strange(strange[0], datasets)}")
        return policy

    @classmethod
    def template(cls) -> str:
        """A policy file with every setting explained and commented out at its default."""
        lines = [_HEAD]
        for name, table in _tables().items():
            lines += ["", f"# {cls.model_fields[name].description}", f"[{name}]"]
            for setting, field in table.model_fields.items():
                description = [f"# {line}" for line in dedent(str(field.description)).splitlines()]
                lines += [*description, f"# {setting} = {json.dumps(field.default)}", ""]
            lines.pop()
        return "\n".join(lines) + "\n" + _TABLES

    @property
    def digest(self) -> str:
        """SHA-256 of all settings in canonical form: changes exactly when what holds changes."""
        return sha256(canonical.dumps(self.model_dump(mode="json"))).hexdigest()

    @property
    def release_digest(self) -> str:
        """The same of the settings that say who may have what of the data; not of those of money and work."""
        tables = {"accept", "data", "privacy", "datasets", "committees"}
        return sha256(canonical.dumps(self.model_dump(mode="json", include=tables))).hexdigest()

    def changed(self) -> dict[str, dict[str, Any]]:
        """The settings that are not at their default, by table."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def taking_single(self) -> Self:
        """The same, but with rounds accepted that keep a single mine."""
        return self.model_copy(update={"accept": self.accept.model_copy(update={"min_mines": 1})})

    def committee(self, capsule: str) -> CommitteeTerms | None:
        """Whose signatures stand for this Capsule if the owner listed it as a committee."""
        return next((terms for address, terms in self.committees.items() if address.lower() == capsule.lower()), None)

    def trusts(self, capsule: Address, network_capsule: str | None) -> CommitteeTerms | None:
        """Whose signatures stand for the campaign's Capsule if it is a committee; None for one that signs itself.

        Raises PolicyError unless it is one that the owner trusts.
        """
        from mine.policy.campaign_rules import capsule_finding

        finding = capsule_finding(self, capsule, network_capsule)
        if not finding.ok:
            raise PolicyError(finding.text)
        return self.committee(capsule)

    def without_dataset(self, names: Sequence[str]) -> list[str]:
        """The data sets with a table that are not among those that there are."""
        return [name for name in self.datasets if name not in names]

    def dataset(self, name: str) -> DatasetTerms | None:
        """What the owner said of one data set."""
        return self.datasets.get(name)


def _strange(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean [datasets.{near[0]}]?" if near else f"there are {', '.join(sorted(known)):.300}"
    return f"[datasets.{name:.100}] is for a data set that is not there, so it restricts none: {hint}"


def _tables() -> dict[str, type[BaseModel]]:
    """The tables with a fixed name, by it."""
    found = {name: field.annotation for name, field in Policy.model_fields.items()}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def _told(place: Sequence[str], problem: ErrorDetails) -> str:
    """What is wrong with the setting at a place, and what to write there instead."""
    if problem["type"] == "extra_forbidden":
        return _unknown(place)
    table, setting = _split(place)
    name = f"`{setting}` in [{table}]" if setting else f"[{table}]"
    given = problem.get("input")
    got = "" if isinstance(given, dict) else f" (got {json.dumps(given, default=str):.100})"
    return f"{name} {_words(problem)}{got}{_switched(setting, problem) or _example(place)}"


def _switched(setting: str, problem: ErrorDetails) -> str:
    """What to write for a switch that was set in other words, such as true: nobody should copy the other position."""
    if problem["type"] != "literal_error" or set(problem["ctx"]["expected"].split(" or ")) != {"'off'", "'on'"}:
        return ""
    position = _POSITIONS.get(str(problem.get("input")).strip().lower())
    return f'; write: {setting} = "{position}"' if position else ""


def _words(problem: ErrorDetails) -> str:
    said = wording(problem)
    if problem["type"] in {"model_type", "dict_type", "model_attributes_type"}:
        return "must be a table: write its name in brackets on a line of its own, and its settings below"
    return said if said.split(" ")[0] in {"must", "is", "its"} else f"cannot be: {said}"


def _split(place: Sequence[str]) -> tuple[str, str]:
    """A place as the table's header and the setting in it; what is further in belongs to the setting."""
    depth = 2 if place[0] in {"datasets", "committees"} else 1
    return ".".join(place[:depth]), place[depth] if len(place) > depth else ""


def _example(place: Sequence[str]) -> str:
    table, setting = place[0], _split(place)[1]
    known = _EXAMPLES.get(f"{table}.{setting}")
    if known is None and table in _tables() and setting in _tables()[table].model_fields:
        known = json.dumps(_tables()[table].model_fields[setting].default)
    return f"; write for example: {setting} = {known}" if known else ""


def _unknown(place: Sequence[str]) -> str:
    """A setting that is not there; its value is not shown, since nobody knows what it is."""
    name = place[-1]
    homes = [table for table, kind in _tables().items() if name in kind.model_fields]
    if homes:
        return f"the setting `{name}` stands in the table [{homes[0]}]: write it below a line [{homes[0]}]"
    names = [*_tables(), *(setting for kind in _tables().values() for setting in kind.model_fields)]
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean `{near[0]}`?" if near else "the file that `mine init` writes names all"
    return f"there is no setting `{name:.100}`: {hint}"
