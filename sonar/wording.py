"""What is wrong with a value, in words for whoever wrote it: pydantic's own are for programmers."""

from typing import Final

from pydantic_core import ErrorDetails

__all__ = ["wording"]

_KINDS: Final = {
    "bool_type": "must be true or false",
    "bytes_type": "must be bytes",
    "dict_type": "must be a table of names and values",
    "extra_forbidden": "there is no such field",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "missing": "is missing",
    "model_type": "must be an object with fields",
    "string_type": "must be text",
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
}
"""By the types of pydantic's errors; what is not here is told in its own words."""


def wording(problem: ErrorDetails) -> str:
    """One of a ValidationError's `errors()` as the end of a sentence about the value."""
    words = _KINDS.get(problem["type"])
    return problem["msg"] if words is None else words.format_map(problem.get("ctx", {}))
