"""From a torch module to a declared graph, by torch.fx; whatever no declared layer does is refused by its name.

Only for a module of one's own: tracing runs its `forward`. What comes out is data, which others can trust to build.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, fx, nn
from torch.nn import functional

from sonar.network.building import Network, build
from sonar.network.errors import UnknownLayerError
from sonar.network.graph import Graph
from sonar.wording import told

__all__ = ["trace"]

_CLOSE = 1e-6
_Layers = list[dict[str, Any]]


def trace(module: nn.Module, takes: tuple[int, ...]) -> tuple[Graph, tuple[Tensor, ...]]:
    """The graph of a module on records of shape `takes` (without the batch), and its parameters in the graph's order.

    Raises UnknownLayerError for a module that does anything but declared layers do, and for a graph beyond its limits.
    """
    if not isinstance(module, nn.Module):
        kind = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
        raise UnknownLayerError(f"{kind} is no network: give a torch.nn.Module, made already")
    _check_plain(module)
    if isinstance(module, Network) and module.graph.takes == takes:
        return module.graph, tuple(tensor.detach().clone() for tensor in module.tensors())
    try:
        traced = fx.symbolic_trace(module)
    except Exception as error:  # fx runs the module's own code, which may raise anything
        raise UnknownLayerError(
            f"the module {type(module).__name__} cannot be traced ({type(error).__name__}: {error!s:.200}): its "
            "forward must be the same for all records, without conditions on their values"
        ) from error
    found = _Reading(traced, len(takes))
    for node in traced.graph.nodes:
        found.read(node)
    try:
        graph = Graph.model_validate({"takes": takes, "layers": tuple(found.layers)})
    except ValidationError as error:
        raise UnknownLayerError(
            f"the module {type(module).__name__} cannot be declared: {told(error, 'network')}"
        ) from error
    tensors = tuple(found.tensors[one.layer][one.name].detach().clone() for one in graph.parameters)
    _check_complete(module, found, graph, tensors)
    _check_same(module, build(graph, tensors))
    return graph, tensors


class _Reading:
    """The layers read so far; `values` says which value each node of the trace gives."""

    def __init__(self, traced: fx.GraphModule, dimensions: int) -> None:
        self._modules = dict(traced.named_modules())
        self._dimensions = dimensions
        self.layers: _Layers = []
        self.tensors: dict[int, dict[str, Tensor]] = {}
        self._values: dict[fx.Node, int] = {}
        self._sizes: set[fx.Node] = set()
        self._seen: dict[int, str] = {}
        self._finished = False

    def read(self, node: fx.Node) -> None:
        match node.op:
            case "placeholder":
                if self._values:
                    raise UnknownLayerError(f"the module takes {node.name!r} besides its records: one input is allowed")
                self._values[node] = 0
            case "call_module":
                self._module(node)
            case "call_function":
                self._call(node, _FUNCTIONS.get(node.target), _name_of(node.target))
            case "call_method":
                self._call(node, _METHODS.get(str(node.target)), f"Tensor.{node.target}")
            case "output":
                self._output(node)
            case _:
                raise UnknownLayerError(
                    f"the module uses its own tensor {node.target!r} outside of a layer: parameters must be those of "
                    "torch.nn layers"
                )

    def _output(self, node: fx.Node) -> None:
        given = node.args[0]
        if not isinstance(given, fx.Node) or self._values.get(given) != len(self.layers):
            raise UnknownLayerError("the module must give one tensor, which its last layer makes")

    def _module(self, node: fx.Node) -> None:
        name = str(node.target)
        module = self._modules[name]
        make = _MODULES.get(type(module))
        if make is None:
            raise UnknownLayerError(
                f"layer {name!r} is of {type(module).__name__}, which no declared layer is{_instead(module)}: "
                f"use {', '.join(sorted(kind.__name__ for kind in _MODULES))}"
            )
        if id(module) in self._seen and any(True for _ in module.parameters()):
            raise UnknownLayerError(f"layer {name!r} is used twice: shared parameters cannot be declared")
        self._seen[id(module)] = name
        layer = make(module)
        self._add(node, layer, name)
        if layer is not None:
            self.tensors[len(self.layers) - 1] = dict(module.named_parameters(recurse=False))

    def _call(self, node: fx.Node, make: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None, name: str) -> None:
        if name in {"Tensor.size", "getattr", "getitem"}:
            self._sizes.add(node)  # only for a reshape that flattens
            return
        if make is None:
            instead = _INSTEAD.get(name.removeprefix("Tensor."), "use torch.nn layers")
            raise UnknownLayerError(f"the module calls {name}, which no declared layer does: {instead}")
        others = tuple("size" if isinstance(a, fx.Node) and a in self._sizes else a for a in node.args[1:])
        layer = make(others, dict(node.kwargs))
        if layer is None:
            raise UnknownLayerError(f"the module calls {name} with {others!r:.80}, which no declared layer does")
        self._add(node, layer, name)

    def _add(self, node: fx.Node, layer: dict[str, Any] | None, name: str) -> None:
        given = [
            arg for arg in (*node.args, *node.kwargs.values()) if isinstance(arg, fx.Node) and arg not in self._sizes
        ]
        if any(arg not in self._values for arg in given) or not given:
            raise UnknownLayerError(f"{name} takes what is no value of the network")
        if layer is None:  # it does nothing
            self._values[node] = self._values[given[0]]
            return
        self.layers.append({**layer, "of": tuple(self._values[arg] for arg in given)})
        self._values[node] = len(self.layers)


_SCORES = "leave it out, as training takes the scores themselves, and predict_proba gives probabilities"
_INSTEAD = {
    "softmax": _SCORES, "log_softmax": _SCORES,
    "dropout": "use the layer torch.nn.Dropout",
    "batch_norm": "use torch.nn.GroupNorm",
}  # fmt: skip
"""What to write instead of calls that many networks have."""


def _instead(module: nn.Module) -> str:
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return (
            " (its running statistics would be told unclipped; a GroupNorm keeps none, and of a trained backbone "
            "torch.nn.utils.fusion.fuse_conv_bn_eval makes it a part of the convolution)"
        )
    if isinstance(module, nn.Softmax | nn.LogSoftmax):
        return f" ({_SCORES})"
    return ""


def _check_plain(module: nn.Module) -> None:
    """Raises UnknownLayerError for a module that hides the one that was written, which alone can be traced."""
    inner = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
    kind = type(module).__name__
    if kind in inner and hasattr(module, inner[kind]):
        raise UnknownLayerError(f"{kind} wraps the network that you wrote: give that, which is its .{inner[kind]}")
    if isinstance(module, torch.jit.ScriptModule):
        raise UnknownLayerError("a script has no layers to declare any more: give the module that it was made from")


def _name_of(target: Any) -> str:
    return str(getattr(target, "__name__", target))


def _pair(given: Any, dimensions: int) -> tuple[int, ...]:
    return tuple(int(n) for n in given) if isinstance(given, (tuple, list)) else (int(given),) * dimensions


def _conv(dimensions: int) -> Callable[[Any], dict[str, Any]]:
    def make(module: Any) -> dict[str, Any]:
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise UnknownLayerError(
                f"a convolution with padding {module.padding!r} of {module.padding_mode} cannot be declared: pad by a "
                "number, with zeros"
            )
        return {"op": "conv", "channels": module.out_channels, "groups": module.groups,
                "bias": module.bias is not None,
                "kernel": _pair(module.kernel_size, dimensions), "stride": _pair(module.stride, dimensions),
                "padding": _pair(module.padding, dimensions),
                "dilation": _pair(module.dilation, dimensions)}  # fmt: skip

    return make


def _pool(op: str, dimensions: int) -> Callable[[Any], dict[str, Any]]:
    def make(module: Any) -> dict[str, Any]:
        odd = module.ceil_mode or getattr(module, "dilation", 1) not in (1, (1,) * dimensions)
        odd = odd or getattr(module, "return_indices", False) or not getattr(module, "count_include_pad", True)
        if odd or getattr(module, "divisor_override", None) is not None:
            raise UnknownLayerError(f"{module} cannot be declared: leave its unusual settings at their defaults")
        return _pooled(op, dimensions, module.kernel_size, module.stride, module.padding)

    return make


def _pooled(op: str, dimensions: int, kernel: Any, stride: Any = None, padding: Any = 0) -> dict[str, Any]:
    kernel = _pair(kernel, dimensions)
    return {"op": op, "kernel": kernel, "stride": kernel if stride is None else _pair(stride, dimensions),
            "padding": _pair(padding, dimensions)}  # fmt: skip


def _pool_call(op: str, dimensions: int) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    def make(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        known = dict(zip(("kernel_size", "stride", "padding"), args, strict=False)) | kwargs
        usual = {
            "ceil_mode": False,
            "return_indices": False,
            "dilation": 1,
            "count_include_pad": True,
            "divisor_override": None,
        }
        if any(known.pop(name, default) != default for name, default in usual.items()) or len(args) > 3:
            return None
        if not known.keys() <= {"kernel_size", "stride", "padding"}:
            return None
        return _pooled(op, dimensions, known["kernel_size"], known.get("stride"), known.get("padding", 0))

    return make


def _adaptive(dimensions: int) -> Callable[[Any], dict[str, Any]]:
    def make(module: Any) -> dict[str, Any]:
        return {"op": "adaptive_avg_pool", "windows": _pair(module.output_size, dimensions)}

    return make


def _gelu(approximate: str) -> dict[str, Any]:
    return {"op": "gelu_tanh" if approximate == "tanh" else "gelu"}


def _usual(op: str, **defaults: Any) -> Callable[[Any], dict[str, Any]]:
    """A module that is declared only with these settings."""

    def make(module: Any) -> dict[str, Any]:
        for name, value in defaults.items():
            if getattr(module, name) != value:
                raise UnknownLayerError(f"{module} cannot be declared: leave {name} at {value}")
        return {"op": op}

    return make


def _plain(op: str) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """A call without settings, but for `inplace`."""
    return lambda args, kwargs: {"op": op} if args in ((), (True,), (False,)) and kwargs.keys() <= {"inplace"} else None


def _flatten(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    known = dict(zip(("start_dim", "end_dim"), args, strict=False)) | kwargs
    return {"op": "flatten"} if known in ({"start_dim": 1}, {"start_dim": 1, "end_dim": -1}) else None


def _reshape(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    shape = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
    flat = len(shape) == 2 and (
        (shape[0] == "size" and shape[1] == -1) or (shape[0] == -1 and isinstance(shape[1], int))
    )
    return {"op": "flatten"} if flat and not kwargs else None


def _transpose(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
    return (
        {"op": "transpose"} if tuple(given) in {(1, 2), (2, 1), (-1, -2), (-2, -1), (0, 2, 1)} and not kwargs else None
    )


def _added(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return {"op": "add"} if len(args) == 1 and isinstance(args[0], fx.Node) and not kwargs else None


def _norm(module: Any) -> dict[str, Any]:
    return {"op": "layer_norm", "dimensions": len(module.normalized_shape), "epsilon": module.eps,
            "affine": module.elementwise_affine, "bias": module.bias is not None}  # fmt: skip


def _embedding(module: Any) -> dict[str, Any]:
    if module.max_norm is not None or module.padding_idx is not None:
        raise UnknownLayerError(f"{module} cannot be declared: leave max_norm and padding_idx at None")
    return {"op": "embedding", "count": module.num_embeddings, "width": module.embedding_dim}


def _flat_module(module: Any) -> dict[str, Any]:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise UnknownLayerError(f"{module} cannot be declared: flatten all dimensions but the batch")
    return {"op": "flatten"}


_MODULES: dict[type[nn.Module], Callable[[Any], dict[str, Any] | None]] = {
    nn.Linear: lambda m: {"op": "linear", "units": m.out_features, "bias": m.bias is not None},
    nn.Conv1d: _conv(1), nn.Conv2d: _conv(2),
    nn.MaxPool1d: _pool("max_pool", 1), nn.MaxPool2d: _pool("max_pool", 2),
    nn.AvgPool1d: _pool("avg_pool", 1), nn.AvgPool2d: _pool("avg_pool", 2),
    nn.AdaptiveAvgPool1d: _adaptive(1), nn.AdaptiveAvgPool2d: _adaptive(2),
    nn.ReLU: _usual("relu"), nn.LeakyReLU: _usual("leaky_relu", negative_slope=0.01), nn.ELU: _usual("elu", alpha=1.0),
    nn.GELU: lambda m: _gelu(m.approximate), nn.SiLU: _usual("silu"), nn.Tanh: _usual("tanh"),
    nn.Sigmoid: _usual("sigmoid"), nn.Flatten: _flat_module, nn.Identity: lambda _: None,
    nn.Dropout: lambda m: {"op": "dropout", "part": float(m.p)}, nn.LayerNorm: _norm,
    nn.GroupNorm: lambda m: {"op": "group_norm", "groups": m.num_groups, "epsilon": m.eps, "affine": m.affine},
    nn.Embedding: _embedding,
}  # fmt: skip
_FUNCTIONS: dict[Any, Callable[[tuple[Any, ...], dict[str, Any]], Any]] = {
    torch.relu: _plain("relu"), functional.relu: _plain("relu"), torch.tanh: _plain("tanh"),
    functional.tanh: _plain("tanh"), torch.sigmoid: _plain("sigmoid"), functional.sigmoid: _plain("sigmoid"),
    functional.silu: _plain("silu"), functional.elu: _plain("elu"), functional.leaky_relu: _plain("leaky_relu"),
    functional.gelu: lambda args, kwargs: _gelu(kwargs.get("approximate", "none")) if not args else None,
    torch.flatten: _flatten, torch.reshape: _reshape, torch.transpose: _transpose, torch.permute: _transpose,
    functional.max_pool1d: _pool_call("max_pool", 1), functional.max_pool2d: _pool_call("max_pool", 2),
    functional.avg_pool1d: _pool_call("avg_pool", 1), functional.avg_pool2d: _pool_call("avg_pool", 2),
    operator.add: _added, operator.iadd: _added, torch.add: _added,
}  # fmt: skip
_METHODS: dict[str, Callable[[tuple[Any, ...], dict[str, Any]], Any]] = {
    "relu": _plain("relu"), "tanh": _plain("tanh"), "sigmoid": _plain("sigmoid"), "flatten": _flatten,
    "view": _reshape, "reshape": _reshape, "transpose": _transpose, "permute": _transpose, "add": _added,
}  # fmt: skip


def _check_complete(module: nn.Module, found: _Reading, graph: Graph, tensors: tuple[Tensor, ...]) -> None:
    read = {id(tensor) for parts in found.tensors.values() for tensor in parts.values()}
    idle = [name for name, tensor in module.named_parameters() if id(tensor) not in read]
    if idle:
        raise UnknownLayerError(f"the parameter {idle[0]!r} is in no layer that is used: take it out")
    if [tuple(tensor.shape) for tensor in tensors] != [one.shape for one in graph.parameters]:
        raise UnknownLayerError(
            f"the layers of {type(module).__name__} do not fit records of shape {graph.takes}: give the shape that "
            "they were made for"
        )


def _check_same(module: nn.Module, network: Network) -> None:
    """Raises UnknownLayerError unless module and graph give the same: hooks and overridden methods leave no trace."""
    training = module.training
    kind = next(module.parameters()).dtype
    records = torch.randn(3, *network.graph.takes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first = network.graph.layers[0]
    if first.op == "embedding":
        records = records.abs().mul(first.count).round().clamp(0, first.count - 1)
    try:
        module.eval()
        network.eval()
        with torch.no_grad():
            theirs = module(records.long() if first.op == "embedding" else records.to(kind)).to(torch.float64)
            ours = network(records)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        raise UnknownLayerError(
            f"the module does not take records of shape {network.graph.takes}: {error!s:.200}"
        ) from error
    finally:
        module.train(training)
    loose = _CLOSE if kind == torch.float64 else 1e-3
    if theirs.shape != ours.shape or not torch.allclose(theirs, ours, rtol=loose, atol=loose):
        raise UnknownLayerError(
            "the module gives other outputs than its declared layers: it does something that the trace does not show"
        )
