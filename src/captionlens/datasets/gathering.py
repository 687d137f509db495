"""Collection of photographs and captions from a reader's rows, with a record of unusable entries."""

import os
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captionlens.datasets.reading import Folders, OutsideRootError
from captionlens.datasets.records import Problem
from captionlens.errors import DatasetError, OptionError
from captionlens.runtime import EXTENSIONS

SINGLY = 10  # up to so many problems of one kind in one file are reported one by one

# Messages that report many problems of one kind in one file at once; {n} is their number.
_SUMMARIES = {
    "outside": "{n:,} names lead out of the data set's folder",
    "empty-caption": "{n:,} captions are empty",
    "malformed": "{n:,} lines or entries are malformed",
    "no-caption": "{n:,} photographs have no caption",
    "same-id": "{n:,} photographs have the id of another; their file names serve instead",
    "shared-text": "{n:,} photographs have the text of another; they are left out",
    "split": "{n:,} entries have an unknown split, or one that contradicts an earlier entry",
}


@dataclass(slots=True)
class Draft:
    """A photograph whose captions are still being collected."""

    image: Path
    source_id: str
    split: str | None  # None: the data set leaves it open
    name: str
    captions: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Finding:
    at: str  # ":LINE", or ", image 17"
    cause: str
    example: str
    captions: int = 0  # captions lost with an absent photograph


class Gathering:
    """Collects the photographs and captions that a reader finds in the files of one data set."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders = Folders(root)
        self._drafts: dict[Hashable, Draft | _Finding] = {}
        self._by_path: dict[Path, Draft] = {}
        self._findings: dict[tuple[str, Path], list[_Finding]] = {}
        self._where: dict[int, tuple[Path, str]] = {}  # id(draft) -> where it was first named
        self._aside: set[Path] = set()  # photographs that an entry names, and that are left out on purpose
        self._twice = self._once = 0  # captions that a photograph has twice: kept, and left out
        self.notes: list[str] = []

    def knows(self, key: Hashable) -> bool:
        """Whether a photograph was added under this key, existing or absent."""
        return key in self._drafts

    def photograph(
        self,
        key: Hashable,
        name: str,
        folders: Sequence[Path],
        *,
        file: Path,
        at: str = "",
        source_id: str,
        split: str | None,
        absolute: bool = False,
    ) -> None:
        """Add a photograph: `name` is searched in `folders`; `file` and `at` are the place of its entry.

        Args:
            absolute: whether an absolute name may lead out of the data set's folder.
        """
        try:
            path = self._folders.find(name, folders, absolute=absolute)
        except OutsideRootError:
            cause = f"photograph {name!r} leads out of the data set's folder"
            self._drafts[key] = self._find("outside", file, at, cause, name)
            return
        if path is None:
            self._drafts[key] = self._find("absent-image", file, at, f"photograph {name} is absent", name)
            return
        draft = self._by_path.get(path)
        if draft is None:
            draft = self._by_path[path] = Draft(path, source_id, split, name)
            self._where[id(draft)] = (file, at)
        elif split is not None and draft.split is None:
            draft.split = split
        elif split is not None and draft.split != split:
            self.contradiction(file, at, name, split, draft.split)
        self._drafts[key] = draft

    def set_aside(self, name: str, folders: Sequence[Path]) -> None:
        """Tell of a photograph that an entry names and that is left out on purpose."""
        try:
            path = self._folders.find(name, folders)
        except OutsideRootError:
            return
        if path is not None:
            self._aside.add(path)

    def caption(
        self, key: Hashable, text: object, *, file: Path, at: str, split: str | None = None, once: bool = False
    ) -> None:
        """Add a caption to a photograph added before. White space of any kind becomes single spaces.

        Args:
            split: of this very entry; an entry that contradicts the photograph's split is left out.
            once: leave out a caption that the photograph has already. The published data sets have such ones, and keep
                them, so that scores stay comparable.
        """
        draft = self._drafts[key]
        if isinstance(draft, _Finding):
            draft.captions += 1
            return
        if split is not None and draft.split is None:
            draft.split = split
        elif split is not None and draft.split != split:
            self.contradiction(file, at, draft.name, split, draft.split)
            return
        if text is not None and not isinstance(text, str):
            self.malformed(file, at, f"the caption of {draft.name} is not text")
            return
        caption = " ".join((text or "").split())
        if not caption:
            self._find("empty-caption", file, at, f"empty caption of {draft.name}", draft.name)
            return
        if caption not in draft.captions:
            draft.captions.append(caption)
        elif once:
            self._once += 1
        else:
            self._twice += 1
            draft.captions.append(caption)

    def malformed(self, file: Path, at: str, cause: str) -> None:
        """Note a line or an entry that cannot be parsed."""
        self._find("malformed", file, at, cause, f"{at.lstrip(':, ')} ({cause})")

    def refuse_mostly_malformed(self, file: Path, others: int) -> None:
        """Refuse a file that is of another form: more than half of its lines are malformed, and more than `SINGLY`.

        Args:
            file: of the captions.
            others: number of lines or rows that are not malformed.

        Raises:
            DatasetError: it is.
        """
        malformed = self._findings.get(("malformed", file), [])
        if len(malformed) > max(SINGLY, others):
            number = len(malformed) + others
            cause = f"{len(malformed):,} of {number:,} lines are malformed, e.g. {malformed[0].example}"
            raise DatasetError(file, f"{cause}: mend it, the {others:,} others are not read alone")

    def shared_text(self, file: Path, name: str, other: str) -> None:
        """Note a photograph whose text belongs to another one."""
        self._find("shared-text", file, "", f"belongs to {other}; {name}, which has the same name, is left out", name)

    def bad_split(self, file: Path, at: str, error: OptionError) -> None:
        """Note an entry with an unknown split."""
        self._find("split", file, at, str(error), f"{at.lstrip(':, ')}")

    def contradiction(self, file: Path, at: str, name: str, split: str, other: str | None) -> None:
        """Note a photograph with a second split; it stays in the first."""
        cause = f"photograph {name} is in {split} here, but in {other} before; it stays there"
        self._find("split", file, at, cause, name)

    def no_caption(self, file: Path, name: str) -> None:
        """Note a photograph without captions."""
        self._find("no-caption", file, "", f"photograph {name} has no caption", name)

    def note_unnamed(self, *, below: bool) -> None:
        """Count the photographs that no entry names, in the folders that hold the named ones, and note them.

        Args:
            below: count in all folders that lie in the same folder of the root, too: in `images/b` beside `images/a`.
        """
        named = {str(path) for path in self._by_path} | {str(path) for path in self._aside}
        folders = {os.path.dirname(path) for path in named}  # noqa: PTH120 (called 120,000 times)
        if below:
            folders |= {folder for top in self._tops(folders) for folder in folders_below(top)}
        unnamed = sorted(
            path
            for folder in folders
            for name in self._folders.names(folder)
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")  # noqa: PTH122
            if (path := os.path.join(folder, name)) not in named  # noqa: PTH118
        )
        if unnamed:
            example = os.path.relpath(unnamed[0], self.root)
            self.notes.append(
                f"photographs beside the named ones, in no row or entry: {len(unnamed):,}, e.g. {example}"
            )

    def _tops(self, folders: set[str]) -> set[str]:
        """The folders of the root that some folders lie in."""
        inside = (Path(folder).relative_to(self.root) for folder in folders if Path(folder).is_relative_to(self.root))
        return {str(self.root / folder.parts[0]) for folder in inside if folder.parts}

    def drafts(self) -> list[Draft]:
        """The existing photographs with captions, in the order in which they were added.

        Raises:
            DatasetError: there are none.
        """
        usable, ids = [], set()
        told = self._names_of_lost_captions()
        for draft in self._by_path.values():
            if draft.captions:
                if draft.source_id in ids:
                    cause = f"photograph {draft.name} has the id of another ({draft.source_id})"
                    self._find("same-id", *self._where[id(draft)], cause, draft.name)
                    draft.source_id = str(draft.image)
                ids.add(draft.source_id)
                usable.append(draft)
            elif draft.name not in told:
                self.no_caption(self._where[id(draft)][0], draft.name)
        self._note_duplicates()
        if self._folders.moved:
            self.notes.append(f"{self._folders.moved:,} absolute names of another place were found here by their ends")
        if not usable:
            causes = "; ".join(f"{p.where}: {p.cause}" for p in self.problems()[:3])
            raise DatasetError(self.root, f"no photograph with a caption{f' ({causes})' if causes else ''}")
        return usable

    def _note_duplicates(self) -> None:
        if self._once:
            self.notes.append(f"{self._once:,} captions are there twice for one photograph, and count once")
        if self._twice:
            self.notes.append(f"{self._twice:,} captions are there twice for one photograph, and are kept")

    def problems(self) -> tuple[Problem, ...]:
        """All problems; more than `SINGLY` of a kind in one file are combined into one."""
        told: list[Problem] = []
        for (kind, file), findings in self._findings.items():
            if len(findings) <= SINGLY:
                told.extend(Problem(f"{file}{f.at}", _single(kind, f), kind) for f in findings)
                continue
            if kind == "absent-image":
                captions = sum(finding.captions for finding in findings)
                summary = f"{captions:,} captions name {len(findings):,} photographs that are absent"
            else:
                summary = _SUMMARIES[kind].format(n=len(findings))
            examples = ", ".join(finding.example for finding in findings[:3])
            told.append(Problem(str(file), f"{summary}, e.g. {examples}", kind, len(findings)))
        return tuple(told)

    def _names_of_lost_captions(self) -> set[str]:
        # A photograph whose only captions were empty is reported once, not twice.
        return {f.example for (kind, _), fs in self._findings.items() if kind == "empty-caption" for f in fs}

    def _find(self, kind: str, file: Path, at: str, cause: str, example: str) -> _Finding:
        finding = _Finding(at, cause, example)
        self._findings.setdefault((kind, file), []).append(finding)
        return finding


def folders_below(folder: str) -> Iterator[str]:
    """Yield a folder and those below it, without hidden ones."""
    for place, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield place


def _single(kind: str, finding: _Finding) -> str:
    if kind == "absent-image" and finding.captions:
        return f"{finding.cause} ({finding.captions} caption{'s' * (finding.captions != 1)} left out)"
    return finding.cause
