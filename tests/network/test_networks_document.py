"""docs/networks.md shows what works, and names every layer that there is."""

import re
from pathlib import Path
from typing import get_args

from sonar.network.graph import MAX_LAYERS, MAX_NUMBERS, MAX_PARAMETERS, MAX_WORK
from sonar.network.layers import ACTIVATIONS, Activation, AnyLayer, Pool

DOCUMENT = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()


def test_the_example_is_as_it_says():
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    exec(code, {})


def test_every_layer_and_limit_is_told():
    union = get_args(AnyLayer)[0]
    told = {*ACTIVATIONS, *get_args(Pool.model_fields["op"].annotation)}
    assert set(get_args(Activation.model_fields["op"].annotation)) == set(ACTIVATIONS)
    for layer in get_args(union):
        told |= set(get_args(layer.model_fields["op"].annotation))
    assert told == {op for op in told if f"`{op}`" in DOCUMENT}
    assert (MAX_PARAMETERS, MAX_NUMBERS, MAX_WORK, MAX_LAYERS) == (2_000_000, 1 << 22, 1 << 28, 256)
    for words in ("2,000,000 parameters", "2^22 numbers", "2^28", "256 layers"):
        assert words in DOCUMENT
