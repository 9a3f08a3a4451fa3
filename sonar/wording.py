"""What is wrong with a value, in words for whoever wrote it: pydantic's own are for programmers."""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

__all__ = ["told", "wording"]

_LONGEST_PLACE: Final = 100
_LONGEST_WORDS: Final = 300

_KINDS: Final = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "bytes_type": "must be bytes",
    "dict_type": "must be a table of names and values",
    "enum": "must be {expected}",
    "extra_forbidden": "there is no such field",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "missing": "is missing",
    "model_attributes_type": "must be an object with fields",
    "model_type": "must be an object with fields",
    "none_required": "must be null",
    "string_pattern_mismatch": "must fit the pattern {pattern}",
    "string_type": "must be text",
    "string_unicode": "must be text in UTF-8",
    "tuple_type": "must be a list",
    "value_error": "{error}",
    "json_invalid": "is not JSON: {error}",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have {min_length} characters or more",
    "string_too_long": "must have {max_length} characters at most",
    "too_short": "must have {min_length} entries or more",
    "too_long": "must have {max_length} entries at most",
    "union_tag_invalid": "its {discriminator} is '{tag}', and must be one of {expected_tags}",
    "union_tag_not_found": "its {discriminator} is missing",
}
"""By the types of pydantic's errors; what is not here is told in its own words."""

_DIGITS: Final = re.compile(r"\^(0x)?\[0-9a-f(A-F)?\]\{(\d+)\}\$")
"""The patterns of addresses, hashes and signatures, which are better said."""


def wording(problem: ErrorDetails | Mapping[str, Any]) -> str:
    """One of a ValidationError's `errors()` as the end of a sentence about the value.

    It may quote the value, which may be a stranger's, so it is cut off after 300 characters.
    """
    if problem["type"] == "string_pattern_mismatch" and (form := _DIGITS.fullmatch(problem["ctx"]["pattern"])):
        prefix, either, count = form.groups()
        digits = "hexadecimal digits" if either else "small hexadecimal digits"
        return f"must be {'0x and ' if prefix else ''}{count} {digits}"
    words = _KINDS.get(problem["type"])
    said = problem["msg"] if words is None else words.format_map(problem.get("ctx", {}))
    return str(said)[:_LONGEST_WORDS]


def told(error: ValidationError, whole: str) -> str:
    """The first thing wrong as `place: words`; `whole` names what was read, for what is wrong with all of it."""
    problem = error.errors(include_url=False)[0]
    # A stranger may have chosen the names in it.
    place = ".".join(str(part) for part in problem["loc"] if part != "[key]")[:_LONGEST_PLACE] or whole
    return f"{place}: {wording(problem)}"
