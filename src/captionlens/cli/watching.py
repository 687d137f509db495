"""Watching of folders: which photographs are whole, and captioning them as they arrive."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import watchfiles
from watchfiles import Change

from captionlens.cli.captioning import Captioning
from captionlens.cli.collection import say, tell_left_out
from captionlens.cli.sources import Found, gather
from captionlens.errors import CaptionlensError
from captionlens.runtime.photograph import Photograph

_LONGEST = 60.0  # seconds for which changes that never cease put off a pass
_WATCHES, _INSTANCES = "fs.inotify.max_user_watches", "fs.inotify.max_user_instances"  # Linux's limits: inotify(7)


class Watching:
    """Captions what arrives in folders.

    Every pass looks at all files, so that nothing is missed that arrived while nobody watched, or of which the system
    told nothing.

    Args:
        captioning: what to do with photographs.
        folders: to watch, with their sub-folders.
        patterns: see `options.pattern_options`.
        settle: seconds after its last change at which a file is whole.
        poll: seconds between two looks at folders that tell nothing of changes; None: the system tells.
    """

    def __init__(
        self,
        captioning: Captioning,
        folders: Sequence[str],
        patterns: dict[str, Any],
        *,
        settle: float,
        poll: float | None,
    ) -> None:
        self.captioning, self.folders, self.patterns = captioning, folders, patterns
        self.settle, self.poll, self.quiet = settle, poll, captioning.quiet
        self._failed: dict[str, Any] = {}  # facts of the files that failed, by their names
        self._growing: dict[
            str, tuple[Any, float]
        ] = {}  # facts of files that may not be whole, and when they were seen
        self._problems: set[str] = set()  # that were told
        self._left_out = False  # whether that was told

    def run(self) -> None:
        """Caption until the process is interrupted or terminated, which is its usual end.

        Raises:
            CaptionlensError: folders cannot be watched, an output or the model cannot be opened.
        """
        with _ended_by_a_signal():
            _ = self.captioning.captioner  # one that cannot be loaded ends this before the first photograph comes
            self._pass()
            self.captioning.quiet = True  # no bar for every photograph that arrives
            if not self.quiet:
                say(f"watching {', '.join(self.folders)}; Ctrl-C ends it")
            for _ in self._changes():
                try:
                    self._pass()
                except (CaptionlensError, OSError) as error:  # a full disk, say: the next pass tries again
                    say(str(error))

    def _changes(self) -> Iterator[None]:
        """Yield as soon as changes are noticed, when files have changed, and when growing ones may be whole."""
        quiet_for = round(1000 * self.settle)
        try:
            changes = watchfiles.watch(
                *self.folders,
                watch_filter=None,
                step=quiet_for,
                debounce=max(quiet_for, round(1000 * _LONGEST)),
                rust_timeout=quiet_for,
                yield_on_timeout=True,
                force_polling=self.poll is not None,
                poll_delay_ms=round(1000 * (self.poll or 1)),
                raise_interrupt=True,
            )
            for number, changed in enumerate(changes):
                if self.poll is None:
                    _tell_unwatched(changed)
                if changed or self._growing or number == 0:
                    yield
        except (OSError, RuntimeError) as error:  # RuntimeError: of what watchfiles has no other error for
            limit = _reached_limit(error)
            helps = self.poll is None and not isinstance(error, PermissionError)
            advice = "; --poll SECONDS looks into them instead" if helps else ""
            cause = _tell_limit(limit) if limit else f"{error}{advice}"
            raise CaptionlensError(f"the folders cannot be watched: {cause}") from error

    def _pass(self) -> None:
        """Caption all photographs that are whole and have no caption."""
        found = gather(tuple(self.folders), None, True, may_be_empty=True, **self.patterns)
        self._tell_left_out(found)
        now = time.time()
        growing: dict[str, tuple[Any, float]] = {}

        def chosen(photograph: Photograph) -> bool:
            if photograph.file is None:  # gone since the folder was read
                return False
            if self._failed.get(photograph.name) == photograph.file:
                return False
            since = _unchanged_since(photograph.name)
            facts, first = self._growing.get(photograph.name, (None, now))
            first = first if facts == photograph.file else now
            # The clock of a network drive may be ahead of ours; what was seen twice alike needs no clock.
            if now - since < self.settle and now - first < self.settle:
                growing[photograph.name] = photograph.file, first
                return False
            return True

        counts = self.captioning.run(found.photographs, many=True, chosen=chosen)
        self._growing = growing
        facts_of = {photograph.name: photograph.file for photograph in found.photographs}
        self._failed |= {name: facts_of[name] for name in counts.failures}
        if counts.captioned and not self.quiet:
            say(f"{counts.captioned:,} photographs captioned")

    def _tell_left_out(self, found: Found) -> None:
        """Tell each problem once, and what is left out at the first pass."""
        new = [problem for problem in found.problems if str(problem) not in self._problems]
        self._problems |= {str(problem) for problem in new}
        found.problems[:] = new
        tell_left_out(found, quiet=self.quiet or self._left_out)
        self._left_out = True


def _tell_unwatched(changed: set[tuple[Change, str]]) -> None:
    """Tell when a new folder is not watched because a limit is reached: watchfiles goes on without it.

    The limit is of all watches together, so that one more watch of the folder fails as the first did.
    """
    new = (path for change, path in changed if change is Change.added and os.path.isdir(path))  # noqa: PTH112
    if (folder := next(new, None)) is None:
        return
    try:
        with closing(watchfiles.watch(folder, recursive=False, step=1, rust_timeout=1, yield_on_timeout=True)) as other:
            next(other)
    except (OSError, RuntimeError) as error:  # others tell nothing of the first watch
        if _reached_limit(error) == _WATCHES:
            say(f"new folders are not watched: {_tell_limit(_WATCHES)}")


def _reached_limit(error: Exception) -> str | None:
    if "watch limit reached" in str(error):
        return _WATCHES
    return _INSTANCES if "os error 24" in str(error) else None


def _tell_limit(limit: str) -> str:
    return f"the system's limit {limit} is reached; raise it with sysctl, or let --poll SECONDS look into them instead"


def _unchanged_since(path: str) -> float:
    """Time of the last change of a file's content or name, in seconds; copying may keep the former alone."""
    found = os.stat(path)  # noqa: PTH116 (called for every file)
    return max(found.st_mtime, found.st_ctime)


@contextmanager
def _ended_by_a_signal() -> Iterator[None]:
    """Let Ctrl-C and termination end the block, after what is being written is whole."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
