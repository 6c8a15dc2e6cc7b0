"""Centroids-ReID's network: a ResNet of bottlenecks with its own stem and last stride, average pooling, and the neck.

Three things set it apart from torchvision's ResNet-50, and none of them shows when weights are loaded: the stem has no
ReLU, the last stage has stride 1, and the output is taken behind a BatchNorm1d (the neck) and is not normalised.
Parameter names are those of the published checkpoint (`backbone.base.*`, `bn.*`), so its state dict loads as it is.
Source: mikwieczorek/centroids-reid at a1825b7a, `modelling/backbones/resnet.py` and `modelling/bases.py`, read for facts.
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

EXPANSION = 4  # a bottleneck's output over its inner width
FULL_DEPTHS = (3, 4, 6, 3)


@dataclass(frozen=True, slots=True)
class Architecture:
    """Width of the stem (64 in ResNet-50) and number of bottlenecks per stage."""

    width: int = 64
    depths: tuple[int, int, int, int] = FULL_DEPTHS

    @property
    def dim(self) -> int:
        """Length of the output: 2048 at full width."""
        return self.width * 8 * EXPANSION


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride), 1x1, added to the shortcut."""

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        outputs = inner * EXPANSION
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return cast(Tensor, self.relu(self.bn3(self.conv3(x)) + shortcut))


class ResNet(nn.Module):
    """[b, 3, h, w] to the last feature map [b, width * 32, h / 16, w / 16]."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.width
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = width
        for stage, (depth, stride) in enumerate(zip(architecture.depths, (1, 2, 2, 1), strict=True)):
            inner = width << stage
            blocks = [
                Bottleneck(inputs if i == 0 else inner * EXPANSION, inner, stride if i == 0 else 1)
                for i in range(depth)
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            inputs = inner * EXPANSION

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)))  # no ReLU here: the reference has none
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return x


class _Backbone(nn.Module):
    """Holds the ResNet under the name the checkpoint has for it."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.base = ResNet(architecture)


class ReidNetwork(nn.Module):
    """float32 [b, 3, 256, 128], normalised RGB, to raw vectors [b, dim].

    >>> ReidNetwork(Architecture(width=4, depths=(1, 1, 1, 1))).eval()(torch.zeros(2, 3, 256, 128)).shape
    torch.Size([2, 128])
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = _Backbone(architecture)
        self.bn = nn.BatchNorm1d(architecture.dim)

    def pooled(self, x: Tensor) -> Tensor:
        """The global feature [b, dim] before the neck, which the triplet losses see in training."""
        return nn.functional.adaptive_avg_pool2d(self.backbone.base(x), 1).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.bn(self.pooled(x)))
