"""Modules become graphs that compute the same; whatever cannot be declared is refused by its name."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sonar.network import Graph, UnknownLayerError, building
from sonar.network.building import Network, build
from sonar.network.tracing import trace


def same(module, takes, records=None):
    graph, tensors = trace(module, takes)
    rebuilt = build(Graph.parse(graph.to_bytes()), tensors).eval()
    records = torch.randn(6, *takes) if records is None else records
    with torch.no_grad():
        ours, theirs = rebuilt(records.double()), module.eval()(records).double()
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert sum(p.numel() for p in module.parameters()) == graph.size
    return graph


def test_a_network_with_a_residual_connection_is_rebuilt_from_its_declaration(cnn):
    graph = same(cnn, (1, 8, 8))
    assert [layer.op for layer in graph.layers] == [
        "conv", "relu", "conv", "relu", "add", "max_pool", "flatten", "dropout", "linear",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "takes"),
    [
        (nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.GELU("tanh"), nn.Linear(8, 2)), (5,)),
        (nn.Sequential(nn.Conv1d(2, 6, 3, stride=2, padding=2, dilation=2, groups=2), nn.SiLU(),
                       nn.MaxPool1d(2, padding=1),
                       nn.Flatten(), nn.Linear(18, 2, bias=False)), (2, 9)),
        (nn.Sequential(nn.Conv2d(3, 4, (2, 3), bias=False), nn.GroupNorm(2, 4), nn.ELU(), nn.AvgPool2d(2, 1),
                       nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Identity(), nn.Linear(8, 3)), (3, 7, 7)),
        (nn.Sequential(nn.Conv1d(1, 4, 3), nn.LeakyReLU(), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
                       nn.Tanh(), nn.Linear(4, 2), nn.Sigmoid()), (1, 12)),
        (nn.Sequential(nn.LayerNorm((2, 3), elementwise_affine=False), nn.Flatten(), nn.LayerNorm(6, bias=False),
                       nn.Linear(6, 2)), (2, 3)),
    ],
)  # fmt: skip
def test_every_layer_is_rebuilt_as_torch_has_it(module, takes):
    same(module, takes)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.conv, self.last = nn.Embedding(50, 6), nn.Conv1d(6, 4, 3), nn.Linear(4, 2)

    def forward(self, tokens):
        found = self.conv(self.table(tokens).transpose(1, 2)).relu()
        return self.last(torch.flatten(nn.functional.avg_pool1d(found, 8), start_dim=1))


def test_an_embedding_takes_whole_numbers():
    graph = same(Words(), (10,), torch.randint(0, 50, (6, 10)))
    assert [layer.op for layer in graph.layers][:3] == ["embedding", "transpose", "conv"]


@pytest.mark.parametrize("groups", [1, 2, 6, 3000])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_groups_give_what_torch_gives_and_are_not_taken_one_by_one(dimensions, groups, monkeypatch):
    torch.manual_seed(groups)
    kind = {1: nn.Conv1d, 2: nn.Conv2d}[dimensions]
    module = kind(2 * groups, 3 * groups, 3, stride=2, padding=2, dilation=2, groups=groups).double()
    takes = (2 * groups, *(7, 5)[:dimensions])
    graph = Graph.model_validate({"takes": takes, "layers": (
        {"op": "conv", "of": (0,), "channels": 3 * groups, "groups": groups, "kernel": (3,) * dimensions,
         "stride": (2,) * dimensions, "padding": (2,) * dimensions, "dilation": (2,) * dimensions},
        {"op": "flatten", "of": (1,)}, {"op": "linear", "of": (2,), "units": 1, "bias": False},
    )})  # fmt: skip
    network = Network(graph)
    with torch.no_grad():
        network.steps[0].weight.copy_(module.weight)
        network.steps[0].bias.copy_(module.bias)
        records = torch.randn(4, *takes, dtype=torch.float64)
        expected = module(records)
        # In float64 torch takes groups, and with gaps records, one by one, for 20 microseconds each: hours, of a round.
        monkeypatch.setattr(kind, "_conv_forward", None)
        torch.testing.assert_close(network.steps[0](records), expected)
        monkeypatch.setattr(building, "_WINDOWS_AT_ONCE", 1)
        torch.testing.assert_close(network.steps[0](records), expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2), st.integers(0, 99))
def test_convolutions_of_any_setting_are_rebuilt(kernel, stride, padding, dilation, seed):
    torch.manual_seed(seed)
    convolution = nn.Conv2d(2, 4, kernel, stride, padding, dilation)
    width = (7 + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    same(nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(4 * width**2, 2)), (2, 7, 7))


class Condition(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 2)

    def forward(self, records):
        return self.one(records) if records.sum() > 0 else self.one(-records)


class Calling(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.one, self.call = nn.Linear(4, 4), call

    def forward(self, records):
        return self.call(self.one(records), records, self)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(4))
        self.one = nn.Linear(4, 2)

    def forward(self, records):
        return self.one(records) * self.factor[:2]


def twice():
    shared = nn.Linear(4, 4)
    return nn.Sequential(shared, nn.ReLU(), shared)


def idle():
    module = Calling(lambda found, records, self: found)
    module.spare = nn.Linear(3, 3)
    return module


def hooked():
    module = nn.Sequential(nn.Linear(4, 2))
    module.register_forward_hook(lambda module, given, found: found * 2)
    return module


class Doubling(nn.Linear):
    def forward(self, records):
        return super().forward(records) * 2


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "BatchNorm1d.*GroupNorm.*fuse_conv_bn_eval"),
        (nn.Sequential(nn.LSTM(4, 2)), "LSTM"),
        (nn.Sequential(nn.Linear(4, 2), nn.Softmax(1)), "Softmax.*leave it out.*predict_proba"),
        (nn.Sequential(nn.Conv1d(1, 1, 3, padding_mode="reflect", padding=1)), "reflect"),
        (nn.Sequential(nn.Linear(4, 2), nn.LeakyReLU(0.3)), "negative_slope"),
        (Condition(), "cannot be traced"),
        (Own(), "own tensor 'factor'|calls mul"),
        (twice(), "used twice"),
        (idle(), "'spare.weight'"),
        (hooked(), "other outputs"),
        (nn.Sequential(Doubling(4, 2)), "own tensor|linear|Doubling"),
        (Calling(lambda found, records, self: torch.softmax(found, 1)), "calls softmax.*leave it out.*predict_proba"),
        (Calling(lambda found, records, self: found.log_softmax(1)), "Tensor.log_softmax.*leave it out"),
        (Calling(lambda found, records, self: nn.functional.dropout(found)), "use the layer torch.nn.Dropout"),
        (nn.DataParallel(nn.Linear(4, 2)), "DataParallel wraps the network.*is its .module"),
        (nn.Linear, "the class Linear is no network: give a torch.nn.Module, made already"),
        ("a network", "a str is no network"),
        (Calling(lambda found, records, self: found * 2), "mul"),
        (Calling(lambda found, records, self: found + 1), "add"),
        (Calling(lambda found, records, self: found.exp()), "Tensor.exp"),
        (Calling(lambda found, records, self: (found, records)), "one tensor"),
        (Calling(lambda found, records, self: found.view(2, -1)), "Tensor.view"),
        (nn.Sequential(nn.Linear(5, 2)), "do not fit records of shape"),
    ],
)  # fmt: skip
def test_what_cannot_be_declared_is_refused_by_its_name(module, said):
    with pytest.raises(UnknownLayerError, match=said):
        trace(module, (4,))


def test_tracing_leaves_the_module_as_it_was(cnn):
    before = {name: tensor.clone() for name, tensor in cnn.state_dict().items()}
    cnn.train()
    trace(cnn, (1, 8, 8))
    assert cnn.training
    assert all(torch.equal(before[name], tensor) for name, tensor in cnn.state_dict().items())


def test_what_was_built_from_a_declaration_is_declared_the_same(cnn):
    graph, tensors = trace(cnn, (1, 8, 8))
    again, same_tensors = trace(build(graph, tensors), (1, 8, 8))
    assert again == graph
    assert all(torch.equal(one.double(), other) for one, other in zip(tensors, same_tensors, strict=True))
