"""The default model: a small convolutional network that trains on a CPU in seconds."""

from torch import Tensor, nn

from visionops_assets.config.recipe import InputSpec


def _block(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]


class SmallConvNet(nn.Module):
    """Convolutions that halve the image until its shorter side is at most 4, then two linear layers.

    Channels double at each halving up to `max_width`. The last map is flattened, not averaged: where something
    stands matters on small images. `embedding` is the size of the penultimate layer.
    """

    def __init__(
        self,
        num_classes: int,
        input: InputSpec,
        width: int = 32,
        max_width: int = 128,
        embedding: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if width < 1 or embedding < 1 or not 0 <= dropout < 1:
            raise ValueError("expected width and embedding of at least 1 and dropout in [0, 1)")
        height, breadth, channels = input.height, input.width, width
        layers = _block(input.channels, channels) + _block(channels, channels)
        while min(height, breadth) > 4:
            wider = min(2 * channels, max_width)
            layers += [nn.MaxPool2d(2), *_block(channels, wider)]
            height, breadth, channels = height // 2, breadth // 2, wider
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.embedding = nn.Sequential(
            nn.Linear(channels * height * breadth, embedding), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(embedding, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] of images float [N, C, H, W]."""
        found: Tensor = self.head(self.embedding(self.features(images)))
        return found
