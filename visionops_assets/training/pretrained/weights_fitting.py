"""Given weights into a fresh model: by name and shape. Only the head, which is what the number of classes shapes, may
differ.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

from torch import Tensor, nn

from visionops_assets.common.errors import WeightsError

# What weights of ours, and of a model that was trained on several devices, have before each name.
_WRAPPERS = ("model.", "module.")


# Tensors by a model's names, from another size of image or an older release's names, as that model has them.
AsOwn = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Start:
    """What became of a model's tensors: how many were `loaded`, the names of those of the `head` that are of other
    classes, and of those that the file does not have; both start fresh."""

    loaded: int
    head: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def fresh(self) -> tuple[str, ...]:
        """All that starts as a model without given weights does."""
        return tuple(sorted((*self.head, *self.missing)))

    @property
    def words(self) -> str:
        """What started from what, on one line."""
        said = [f"{self.loaded} tensors loaded"]
        said += [f"the head starts fresh: {', '.join(self.head)}"] if self.head else []
        said += [f"not in the file, so fresh: {', '.join(self.missing)}"] if self.missing else []
        return "; ".join(said)


def start_from(
    model: nn.Module, given: Mapping[str, Tensor], file: str, head: Callable[[], Set[str]]
) -> Start:
    """Load given tensors into a fresh model.

    Names may lack or have what wraps a model: `conv.weight` fits a model's `net.conv.weight`. `head` names the tensors
    whose shape follows from the number of classes, and is asked where shapes differ. Raises WeightsError where nothing
    fits, or a tensor outside the head has another shape.
    """
    own = model.state_dict()
    found = _as_named_there(given, own, getattr(model, "as_own", None))
    other = {name for name, tensor in found.items() if name in own and own[name].shape != tensor.shape}
    fitting = {name: tensor for name, tensor in found.items() if name in own and name not in other}
    kind = type(model).__name__
    if not fitting:
        raise WeightsError(
            f"model.init_weights {file}: no tensor fits {kind} by name and shape; it has "
            f"{', '.join(sorted(own)[:3])}, the file has {', '.join(sorted(given)[:3])}"
        )
    of_head = head() & other if other else frozenset[str]()
    if wrong := sorted(other - of_head):
        first = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise WeightsError(
            f"model.init_weights {file}: {first} is {list(found[first].shape)} in the file and "
            f"{list(own[first].shape)} in {kind}{more}, and is no part of the head: name weights of this model, or "
            "give the recipe the input and init_args that they were made for"
        )
    model.load_state_dict(fitting, strict=False)
    return Start(len(fitting), tuple(sorted(of_head)), tuple(sorted(set(own) - set(fitting) - of_head)))


def _as_named_there(
    given: Mapping[str, Tensor], own: Mapping[str, Tensor], as_own: AsOwn | None
) -> dict[str, Tensor]:
    """The given tensors by the model's names, whichever way most of them fit; made its own by the model itself where
    that fits more of them."""
    candidates = [dict(given)]
    for wrapper in _WRAPPERS:
        candidates.append(
            {name.removeprefix(wrapper): each for name, each in given.items() if name.startswith(wrapper)}
        )
    for part in sorted({name.partition(".")[0] for name in own}):
        candidates.append({f"{part}.{name}": each for name, each in given.items()})

    def fitting(named: Mapping[str, Tensor]) -> int:
        return sum(name in own and own[name].shape == tensor.shape for name, tensor in named.items())

    best = max(candidates, key=fitting)
    if as_own is None or fitting(best) == len(own):
        return best
    return max(best, as_own(best), key=fitting)
