"""Long sequences whose items are made when they are asked for."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

AT_ONCE = 512
Item = TypeVar("Item", covariant=True)


class MadeInPortions(Sequence[Item]):
    """A sequence that keeps columns; `portion` makes the items of some neighbouring places."""

    @abstractmethod
    def portion(self, start: int, stop: int) -> list[Item]:
        """The items from `start` to before `stop`, both within the sequence."""

    @overload
    def __getitem__(self, key: int) -> Item: ...
    @overload
    def __getitem__(self, key: slice) -> list[Item]: ...
    def __getitem__(self, key: int | slice) -> Item | list[Item]:
        places = range(len(self))[key]
        if isinstance(places, int):
            return self.portion(places, places + 1)[0]
        if places.step == 1:
            return self.portion(places.start, max(places.start, places.stop))
        return [self[place] for place in places]

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), AT_ONCE):
            yield from self.portion(start, min(start + AT_ONCE, len(self)))
