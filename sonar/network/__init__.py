"""Networks that travel as a declaration and never as code: what they compute, their parameters, their local training.

    torch.nn.Module --trace--> Graph (canonical JSON) --build--> torch.nn.Module
    parameters --encode, in_rows--> integers (rows, width) on a public grid --out_of_rows, decode--> parameters
    a mine's records --train--> the clipped change of the parameters

    layers      what a layer is: its shape, parameters and work          building    Graph -> torch.nn.Module
    graph       layers in order, bounded before anything is built        parameters  numbers <-> integers in rows
    schedule    how a mine trains, as a spec says it                     training    seeded local training, clipped
    optimizers  steps down a gradient                                    singles     gradients of records one by one
    tracing     torch.nn.Module -> Graph, unknown operators by name      separable   which layers keep records apart

`graph`, `layers`, `schedule` and `separable` know no torch: a spec is read without it. Nothing is unpickled, compiled
or evaluated.

Errors:

    NetworkError
    |-- UnknownLayerError   a module does what no declared layer does; it is named
    `-- ParameterError      parameters of another network, or beyond the grid's bound
"""

from sonar.network.errors import NetworkError, ParameterError, UnknownLayerError
from sonar.network.graph import MAX_PARAMETERS, Graph
from sonar.network.schedule import NetworkTraining

__all__ = ["MAX_PARAMETERS", "Graph", "NetworkError", "NetworkTraining", "ParameterError", "UnknownLayerError"]
