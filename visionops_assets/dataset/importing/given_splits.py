"""The split that a source gives each image: by its lists and folders of splits, else by names of files and folders."""

from visionops_assets.common.findings import Finding
from visionops_assets.dataset.importing.matching import PREFIX, SUFFIX, Finder, Meant
from visionops_assets.dataset.importing.said import Said
from visionops_assets.dataset.importing.stated_splits import (
    split_in_folders,
    split_of_file,
    splits_in_folders,
    stem,
)


class GivenSplits:
    """Gives the split of an image by its place. `findings` are contradictions, `told` how names in lists were read, as
    (how, the text, what it means, how often, more of it)."""

    def __init__(self, said: Said, finder: Finder) -> None:
        self._said, self._finder = said, finder
        self.findings: list[Finding] = []
        self.told: list[tuple[str, str, Meant, int, str]] = []
        self._of_folder: dict[str, list[str]] = {}
        self._listed = self._by_list()

    def of(self, place: int, row: int) -> str | None:
        """The split of an image that a row is about, or none (-1)."""
        listed = self._listed.get(place)
        return listed if listed is not None else self._by_names(self._finder.images[place], row)

    def _by_names(self, name: str, row: int) -> str | None:
        folder, given = name.rpartition("/")[0], self._said.folders
        if given:
            fitting = [one for one in given if not one or f"{folder}/".startswith(f"{one}/")]
            return given[max(fitting, key=len)] if fitting else None
        file = None if row < 0 else self._said.files[self._said.file_of[row]]
        of_file = None if file is None else split_of_file(file)
        of_folders = self._splits_of(folder)
        if len({*of_folders, *([of_file] if of_file else [])}) > 1:
            told = [f"{' and of '.join(of_folders)} by its folders"]
            told += [f"{of_file} by {file}"] if of_file and not self._said.one_each else []
            why = "so it is not known which it is of; rename one of them, or draw by lot with --holdout 0.25"
            self.findings.append(Finding("one split", name, f"is of {' and of '.join(told)}", why))
        return of_file or split_in_folders(folder)

    def _splits_of(self, folder: str) -> list[str]:
        if folder not in self._of_folder:
            self._of_folder[folder] = splits_in_folders(folder)
        return self._of_folder[folder]

    def _by_list(self) -> dict[int, str]:
        """The split of each image by the lists of the source, by place."""
        found: dict[int, tuple[str, str]] = {}
        entries = self._said.listed
        meant = [self._in_list(text, file.rpartition("/")[0]) for text, _, file, _ in entries]
        lacking = [number for number, one in enumerate(meant) if not one.places]
        if lacking:
            moved, prefix = self._finder.with_prefix([entries[number][0] for number in lacking])
            for number, one in moved.items():
                meant[lacking[number]] = one
            if moved:
                first = min(moved)
                self.told.append((PREFIX, entries[lacking[first]][0], moved[first], len(moved), prefix))
        for (text, split, file, line), one in zip(entries, meant, strict=True):
            if not one.places:
                what = f"is listed ({file}, line {line}) but is not there"
                self.findings.append(Finding("complete", text, what, "add it, or remove its line"))
            images = self._finder.images
            if len({stem(images[place]) for place in one.places}) > 1:
                what = f"fits {images[one.places[0]]} and {images[one.places[1]]} ({file}, line {line})"
                self.findings.append(Finding("one image", text, what, "list the image by its path"))
                continue
            for place in one.places:
                before = found.setdefault(place, (split, file))
                if before[0] != split:
                    what = f"is listed in {before[1]} and in {file}, for {before[0]} and {split}"
                    self.findings.append(Finding("one split", images[place], what, "keep it in one list"))
        return {place: split for place, (split, _) in found.items()}

    def _in_list(self, text: str, folder: str) -> Meant:
        found = self._finder.meant(text, folder)
        if not found.places or found.how == SUFFIX:
            # Lists may name images without their suffix, which is nothing to be told.
            bare = self._finder.meant(text, folder, bare=True)
            found = bare if bare.places else found
        if found.how:
            self.told.append((found.how, text, found, 1, ""))
        return found
