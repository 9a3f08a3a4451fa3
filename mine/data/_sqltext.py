"""Names and texts in SQL."""

__all__ = ["literal", "quoted"]


def literal(text: str) -> str:
    """A text."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name."""
    return '"' + name.replace('"', '""') + '"'
