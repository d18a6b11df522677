"""What the detectors of other libraries have in common behind the protocol of models."""

from torch import Tensor, nn

from visionops_assets.config.recipe import InputSpec


class AdaptedDetector(nn.Module):
    """A detector whose `forward` gives outputs by name, and among them `pooled`, the pooled features [N, D]."""

    def outputs_and_embedding(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What `forward` gives, and the pooled features [N, D]."""
        outputs = self(images)
        return outputs, outputs["pooled"]


def in_colour(images: Tensor) -> Tensor:
    """Images [N, C, H, W] for what was trained on colours, which takes a grey image as one: [N, 3, H, W]."""
    return images.expand(-1, 3, -1, -1)


def require_sides(input: InputSpec, divisor: int) -> None:
    """Raise ValueError for an image side that the strides of a network do not divide."""
    if input.height % divisor or input.width % divisor:
        raise ValueError(f"expected input sides that {divisor} divides, got {input.height} × {input.width}")
