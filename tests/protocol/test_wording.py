"""What is wrong with a value is told in our words, never in pydantic's."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from sonar.protocol.spec import AnyMap
from sonar.wording import told

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Inner(BaseModel):
    model_config = STRICT

    count: Annotated[int, Field(ge=1, lt=5)] = 1


class Outer(BaseModel):
    model_config = STRICT

    digest: Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")] = "0x" + "0" * 64
    account: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")] = "0x" + "0" * 40
    bare: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = "0" * 64
    free: Annotated[str, Field(pattern=r"^[a-z]+:$", max_length=9)] = "a:"
    inner: Inner = Inner()
    many: tuple[int, ...] = ()
    kind: Literal["a", "b"] = "a"
    mapping: AnyMap | None = None
    real: float = 0.0
    names: dict[Annotated[str, Field(pattern=r"^[a-z]$")], int] = {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{", "body: is not JSON: "),
        ("[]", "body: must be an object with fields"),
        ('{"digest": "0x12"}', "digest: must be 0x and 64 small hexadecimal digits"),
        ('{"account": "0x12"}', "account: must be 0x and 40 hexadecimal digits"),
        ('{"bare": "0x12"}', "bare: must be 64 small hexadecimal digits"),
        ('{"free": "12"}', "free: must fit the pattern ^[a-z]+:$"),
        ('{"free": "aaaaaaaaa:"}', "free: must have 9 characters at most"),
        ('{"free": 1}', "free: must be text"),
        ('{"inner": {"count": 0}}', "inner.count: must be at least 1"),
        ('{"inner": {"count": 5}}', "inner.count: must be less than 5"),
        ('{"inner": {"count": 1.5}}', "inner.count: must be a whole number"),
        ('{"inner": {"count": null}}', "inner.count: must be a whole number"),
        ('{"inner": 3}', "inner: must be an object with fields"),
        ('{"inner": {"x": 3}}', "inner.x: there is no such field"),
        ('{"many": {}}', "many: must be a list"),
        ('{"many": [1, "2"]}', "many.1: must be a whole number"),
        ('{"kind": "c"}', "kind: must be 'a' or 'b'"),
        ('{"mapping": {"kind": "x"}}', "mapping: its 'kind' is 'x', and must be one of 'identity', 'fourier', 'polyn"),
        ('{"mapping": {}}', "mapping: its 'kind' is missing"),
        ('{"mapping": 3}', "mapping: must be a table of names and values"),
        ('{"mapping": {"kind": "fourier"}}', "mapping.fourier.count: is missing"),
        ('{"real": NaN}', "real: must be a finite number"),
        ('{"real": "1"}', "real: must be a number"),
        ('{"names": []}', "names: must be a table of names and values"),
        ('{"names": {"AB": 1}}', "names.AB: must fit the pattern ^[a-z]$"),
    ],
)
def test_a_wrong_value_is_told_by_its_place_and_what_it_must_be(given: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json(given)
    assert told(caught.value, "body").startswith(said)


@pytest.mark.parametrize("given", [{"mapping": {"kind": "x" * 10_000}}, {"n" * 10_000: 1}])
def test_a_strangers_long_words_are_cut(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(given)
    assert len(told(caught.value, "body")) <= 402


def test_what_is_wrong_with_all_of_it_is_told_of_the_whole() -> None:
    with pytest.raises(ValidationError) as caught:
        RootModel[dict[str, int]].model_validate("x")
    assert told(caught.value, "file") == "file: must be a table of names and values"
