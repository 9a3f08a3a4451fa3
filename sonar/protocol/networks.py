"""A campaign for a network: its declared layers, its local training, and who may have its weights."""

from typing import Annotated

from eth_utils.address import is_checksum_address
from pydantic import AfterValidator, Field

from sonar.network import Graph, NetworkTraining
from sonar.protocol._strict import Strict

__all__ = [
    "MAX_BATCH_NUMBERS", "MAX_JUDGE_WORK", "MAX_NETWORK_ROWS", "MAX_ROUND_PARAMETERS", "NetworkTerms", "judge_work",
]  # fmt: skip

MAX_NETWORK_ROWS = 1 << 14
"""The most rows of weights, each of which takes at least one ciphertext."""
MAX_ROUND_PARAMETERS = 1 << 24
"""The most parameters of a full round's gradients: what bounds the judge's memory."""
MAX_BATCH_NUMBERS = 1 << 28
"""The most numbers of a batch on its way through the layers: 1 GiB of float32, and about as much on its way back."""
MAX_JUDGE_WORK = 1 << 39
"""The most multiplications that judging one round may take: minutes on one core."""
_USUAL_BITS = 3072
_WIDEST = 256
_EXACT = 10
_LAYER_WORK = 1 << 16
"""What a layer takes of each model, however small it is: its parameters are put in place and it is called."""


def _checksummed(text: str) -> str:
    if not is_checksum_address(text):
        raise ValueError(f"{text!r:.60} is not a checksummed (EIP-55) address")
    return text


class NetworkTerms(Strict):
    """What a spec of mode `network` says in place of feature map and training.

    A record's features, scaled and clipped as ever, are the graph's input in their order. The Capsule gives the weights
    of the present version to the `accounts`; where none are named, to every account that holds the campaign's bond or
    has posted one in it, and lost none of those for a gradient that was invalid or a copy. Whoever asks for them
    accepts, by signature, the whole spec with its purpose and licence.
    """

    graph: Graph
    training: NetworkTraining = NetworkTraining()
    accounts: Annotated[tuple[Annotated[str, AfterValidator(_checksummed)], ...], Field(max_length=1024)] = ()

    def shape(self, slot_width: int) -> tuple[int, int]:
        """How many rows of how many parameters each there are: a row fills a plaintext of a key of 3,072 bits."""
        width = min(self.graph.size, (_USUAL_BITS - 2) // slot_width, _WIDEST)
        return -(-self.graph.size // width), width

    def check_sizes(self, round_size: int, rows: int, slot_width: int) -> None:
        """Raises ValueError for a batch, a round or rows that are more than a mine and a judge will bear."""
        graph, batch = self.graph, self.training.batch_size
        if graph.numbers * batch > MAX_BATCH_NUMBERS:
            raise ValueError(
                f"each of a batch's {batch} records takes {graph.numbers} numbers on its way through the layers, and "
                f"all may take {MAX_BATCH_NUMBERS}: choose a batch_size of at most "
                f"{MAX_BATCH_NUMBERS // graph.numbers}"
            )
        if graph.size * round_size > MAX_ROUND_PARAMETERS:
            raise ValueError(
                f"{round_size} gradients of {graph.size} parameters are above the limit of {MAX_ROUND_PARAMETERS} a "
                "round: choose a smaller round_size"
            )
        if rows > MAX_NETWORK_ROWS:
            raise ValueError(
                f"{graph.size} parameters in slots of {slot_width} bits make {rows} rows, above the limit of "
                f"{MAX_NETWORK_ROWS}: choose narrower slots"
            )


def judge_work(graph: Graph, records: int, round_size: int) -> int:
    """About how many multiplications judging a full round takes on so many validation records."""
    models = 7 << round_size if round_size <= _EXACT else 512 * round_size
    return (graph.work * records + _LAYER_WORK * len(graph.layers)) * (models + 256)
