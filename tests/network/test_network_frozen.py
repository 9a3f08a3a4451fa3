"""A frozen network as a feature map: numpy computes what torch does, from data that nobody need trust."""

import base64
import math
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from torch import nn

from pysonar._features import torch_map
from sonar import canonical
from sonar.network import Graph
from sonar.network.building import build
from sonar.network.errors import ParameterError
from sonar.network.frozen import Frozen, _adaptive, _erf, dump_parameters, load_parameters
from sonar.network.parameters import joined, parted
from sonar.network.tracing import trace
from sonar.network.training import outputs_of
from sonar.protocol.errors import ProtocolError, SpecError
from sonar.protocol.payloads import check_judge_work, design_matrix
from sonar.protocol.spec import Spec
from sonar.syft import TrainingError


class Residual(nn.Module):
    """Two convolutions, one beside the other."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, (3, 1), padding=(1, 0), groups=2)
        self.out = nn.Linear(4 * 36, 5)

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.one(records))
        return self.out(torch.flatten(torch.tanh(self.two(inner)) + inner, 1))


NETWORKS = {
    "mlp": (nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.LayerNorm(9), nn.Linear(9, 4, bias=False)), (6,)),
    "cnn": (
        nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.ELU(), nn.MaxPool2d(2, padding=1), nn.GroupNorm(3, 6),
            nn.Conv2d(6, 4, 2), nn.SiLU(), nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 7),
        ),
        (1, 12, 10),
    ),
    "row": (
        nn.Sequential(
            nn.Conv1d(2, 4, 3, dilation=2, groups=2), nn.LeakyReLU(), nn.AvgPool1d(3, stride=2, padding=1),
            nn.Sigmoid(), nn.AdaptiveAvgPool1d(3), nn.Flatten(), nn.Linear(12, 3), nn.GELU("tanh"),
        ),
        (2, 15),
    ),
    "residual": (Residual(), (2, 6, 6)),
    "words": (nn.Sequential(nn.Embedding(11, 3), nn.Flatten(), nn.Linear(12, 3), nn.Tanh()), (4,)),
}  # fmt: skip


def frozen(name: str) -> Frozen:
    """The feature map of one of these networks."""
    module, takes = NETWORKS[name]
    graph, tensors = trace(module, takes)
    return Frozen(graph.features, graph, dump_parameters(joined(graph, tensors)))


@pytest.mark.parametrize("name", NETWORKS)
def test_numpy_computes_what_torch_does(name: str) -> None:
    module, takes = NETWORKS[name]
    mapping = frozen(name)
    records = np.clip(np.random.default_rng(3).normal(size=(50, mapping.inputs)) * 3, -16, 16)
    with torch.no_grad():
        expected = module.double().eval()(torch.tensor(records).reshape(50, *takes) if name != "words" else
                                          torch.tensor(np.clip(np.rint(records), 0, 10)).long()).numpy()  # fmt: skip
        as_module = torch_map(mapping)(torch.tensor(records)).numpy()
    module.float()
    found = mapping.transform(records)
    assert found.shape == (50, mapping.outputs)
    # The parameters are those of float32, and outputs are on a grid of 2^-16.
    np.testing.assert_allclose(found, np.clip(expected, -16, 16), rtol=0, atol=2e-5)
    np.testing.assert_allclose(as_module, found, rtol=0, atol=2e-5)
    assert (found * 2**16 == np.rint(found * 2**16)).all()
    one_by_one = np.vstack([mapping.transform(record[None]) for record in records])
    np.testing.assert_array_equal(one_by_one, found)
    assert mapping.names([str(n) for n in range(mapping.inputs)])[0] == "backbone0"


@pytest.mark.parametrize("given", [(1, 2000), (2000, 1)])
def test_means_take_no_more_memory_on_their_way_than_what_is_given_or_comes_out(given: tuple[int, int]) -> None:
    values = np.random.default_rng(3).normal(size=(1, 1, *given))
    tracemalloc.start()
    found = _adaptive(values, given[::-1])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found, np.full((1, 1, *given[::-1]), values.mean()))
    assert most < 32 * values.nbytes


@pytest.mark.parametrize("windows", [(1, 1), (4, 5), (6, 12), (7, 13), (13, 5), (3, 40)])
def test_means_of_all_sizes_of_windows_are_those_of_torch(windows: tuple[int, int]) -> None:
    values = np.random.default_rng(4).normal(size=(2, 3, 7, 12))
    found = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(values), windows).numpy()
    np.testing.assert_allclose(_adaptive(values, windows), found, rtol=1e-13, atol=1e-15)


def test_the_error_function_is_that_of_the_library() -> None:
    points = np.concatenate([np.linspace(-7, 7, 20_001), [0.0, 1e300, -np.inf]])
    np.testing.assert_allclose(_erf(points), [math.erf(x) for x in points.tolist()], rtol=0, atol=1e-12)


def test_numbers_beyond_all_bounds_come_out_finite() -> None:
    graph, _ = trace(nn.Sequential(*[nn.Linear(2, 2) for _ in range(12)]), (2,))
    row = np.full(graph.size, 3e38) * np.where(np.arange(graph.size) % 2, 1, -1)
    found = Frozen(2, graph, dump_parameters(row)).transform(np.array([[16.0, -16.0], [0.0, 0.0]]))
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 16


def test_a_look_up_of_what_is_no_number_finds_the_first_place() -> None:
    """Else whoever chooses weights chooses, too, for which records a mine or a judge breaks off."""
    layers = [{"op": "linear", "of": [n], "units": 2, "bias": False} for n in range(13)]
    layers += [{"op": "embedding", "of": [13], "count": 5, "width": 3}, {"op": "flatten", "of": [14]}]
    graph = Graph.parse(canonical.dumps({"takes": [2], "layers": layers}))
    row = np.concatenate([np.tile([3e38, -3e38, -3e38, 3e38], 12), np.ones(4), np.arange(15.0) / 16])
    records = np.array([[16.0, 16.0], [1.0, 0.0]])
    network = build(graph, parted(graph, row))
    values = torch.tensor(records)
    for step in list(network.steps)[:13]:
        values = step(values)
    assert torch.isnan(values).any()
    found = Frozen(2, graph, dump_parameters(row)).transform(records)
    np.testing.assert_array_equal(found, outputs_of(network, records))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "are not"),
        (b"\x00" * 100, "not a readable safetensors file"),
        (save({"parameters": np.zeros(8, dtype=np.float32)}), "exactly 9 parameters"),
        (save({"parameters": np.zeros(9, dtype=np.float64)}), "exactly 9 parameters"),
        (save({"others": np.zeros(9, dtype=np.float32)}), "exactly 9 parameters"),
        (save({"parameters": np.full(9, np.nan, dtype=np.float32)}), "is not finite"),
        (save({"parameters": np.zeros(10_000, dtype=np.float32)}), "are not the 9 parameters"),
    ],
)
def test_bytes_that_are_no_parameters_are_refused(data: bytes, says: str) -> None:
    graph, _ = trace(nn.Sequential(nn.Linear(2, 3)), (2,))
    with pytest.raises(ParameterError, match=says):
        load_parameters(graph, data)


def spec_with(mapping: Frozen, **changes: object) -> Spec:
    """A spec with this map."""
    feature_map = {
        "kind": "backbone", "graph": mapping.graph, "parameters": base64.b64encode(mapping.data).decode(),
    }  # fmt: skip
    values = {
        "name": "t", "features": tuple({"name": f"x{n}"} for n in range(mapping.inputs)), "classes": ("a", "b"),
        "feature_map": feature_map, "payout": {"target": 900_000}, **changes,
    }  # fmt: skip
    return Spec.build(**values)


def test_a_spec_carries_its_backbone_and_everybody_maps_alike() -> None:
    mapping = frozen("cnn")
    spec = spec_with(mapping)
    again = Spec.parse(spec.to_bytes())
    assert again == spec
    assert again.mapping == mapping
    assert again.mapping is again.mapping, "built once"
    records = np.random.default_rng(0).normal(size=(9, 120))
    np.testing.assert_array_equal(design_matrix(again, records)[:, :-1], mapping.transform(np.clip(records, -16, 16)))
    with pytest.raises(TrainingError, match="there are 1 names for 120 inputs"):
        mapping.names(["x"])


def test_a_backbone_that_does_not_fit_or_work_is_refused_by_the_spec() -> None:
    mapping = frozen("mlp")
    with pytest.raises(SpecError, match="the backbone takes 6 numbers, and there are 5 features"):
        spec_with(mapping, features=tuple({"name": f"x{n}"} for n in range(5)))
    good = spec_with(mapping)
    for parameters, says in (("!!", "not base64"), ("AAAA", "are not the|not a readable")):
        changed = {"kind": "backbone", "graph": mapping.graph, "parameters": parameters}
        with pytest.raises(SpecError, match=says):
            Spec.build(**{**dict(good), "feature_map": changed})
    layers = nn.Sequential(nn.Conv2d(1, 400, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    wide, tensors = trace(layers, (1, 40, 40))
    heavy = Frozen(1600, wide, dump_parameters(joined(wide, tensors)))
    with pytest.raises(SpecError, match="multiplications a record, above the limit of 4194304"):
        spec_with(heavy)


def test_a_judge_does_not_take_a_validation_set_on_which_the_backbone_takes_hours() -> None:
    graph, tensors = trace(
        nn.Sequential(nn.Conv2d(1, 30, 5, padding=2), nn.Flatten(), nn.Linear(12000, 4)), (1, 20, 20)
    )
    spec = spec_with(Frozen(400, graph, dump_parameters(joined(graph, tensors))))
    check_judge_work(spec, 100_000)
    with pytest.raises(ProtocolError, match="for 1000000 validation records more than"):
        check_judge_work(spec, 1_000_000)
