"""The code in docs/training.md runs and holds what it asserts."""

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"
PIECES = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("code", PIECES)
def test_a_piece_of_the_document_runs(code):
    exec(compile(code, DOCUMENT.name, "exec"), {})


def test_the_document_names_every_choice():
    from sonar.protocol.training import BackboneMap, FourierMap, IdentityMap, PolynomialMap, Training

    text = DOCUMENT.read_text()
    for name in Training.model_fields:
        assert f"| `{name}` |" in text
    for kind in (IdentityMap, FourierMap, PolynomialMap, BackboneMap):
        assert all(f'"{name}"' in text for name in kind.model_fields)
        assert f'"{kind.model_fields["kind"].default}"' in text
