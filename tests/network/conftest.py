"""Small networks that tests of several parts use."""

import pytest
import torch
from torch import nn


class SmallCnn(nn.Module):
    """Two convolutions with a residual connection, on pictures of 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.dropout = nn.Dropout(0.1)
        self.last = nn.Linear(8 * 16, 10)

    def forward(self, images):
        found = torch.relu(self.first(images))
        found = found + torch.relu(self.second(found))
        found = nn.functional.max_pool2d(found, 2)
        return self.last(self.dropout(found.view(found.size(0), -1)))


@pytest.fixture
def cnn():
    torch.manual_seed(7)
    return SmallCnn()


@pytest.fixture
def mlp():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(5, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 3))
