"""What names erased items and persons, and what is left of a job that did."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from app.core.jobs import Job
from app.core.records import Item

ERASED = "what it told of was erased"  # stands in the place of a job's texts
_WORD = re.compile(r"[^\W_]+")  # letters and digits


class Names:
    """Texts that are looked for in others, where they stand by themselves: `5` is in `5_c1.jpg`, and not in `15_c1.jpg`.

    A look takes time by the length of what is looked at, hardly by how many names there are.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._by_word: dict[
            str, list[tuple[str, int]]
        ] = {}  # by its longest word, which tells the most; and where it is
        self._wordless: list[str] = []
        for text in set(texts) - {""}:
            words = list(_WORD.finditer(text))
            if words:
                longest = max(words, key=lambda word: len(word[0]))
                self._by_word.setdefault(longest[0], []).append((text, longest.start()))
            else:
                self._wordless.append(text)

    @classmethod
    def of(cls, items: Sequence[Item], ids: Iterable[str], persons: Iterable[str]) -> "Names":
        """What items are known by, also those of which only the id is known, and persons."""
        sources = [item.source for item in items if item.source]
        files = [source.replace("\\", "/").rpartition("/")[2] for source in sources]
        return cls([*sources, *files, *(item.sha256 for item in items), *(item.id for item in items), *ids, *persons])

    def within(self, value: object) -> bool:
        """Whether any text of a value as JSON has it, the keys of objects too, holds a name."""
        if isinstance(value, str):
            return self._in_text(value)
        if isinstance(value, Mapping):
            return any(self.within(part) for pair in value.items() for part in pair)
        return isinstance(value, list | tuple) and any(self.within(part) for part in value)

    def _in_text(self, text: str) -> bool:
        for word in _WORD.finditer(text):
            for name, start in self._by_word.get(word[0], ()):
                if _stands_at(text, name, word.start() - start):
                    return True
        return any(name in text for name in self._wordless)


def named(job: Job, names: Names) -> bool:
    """Whether the job tells of one of them."""
    detail = "" if job.error is None else job.error.detail
    return names.within([job.params, job.progress.note, detail, job.result])


def cleared(job: Job, now: datetime) -> Job:
    """The job without anything it was told or found; if it waited or ran, it was cancelled now."""
    return replace(
        job,
        params={},
        result=None,
        progress=replace(job.progress, note=ERASED),
        error=None if job.error is None else replace(job.error, detail=ERASED),
        state=job.state if job.ended else "cancelled",
        ended_at=job.ended_at if job.ended else now,
    )


def parsed(data: str) -> object:
    """JSON as what it stands for; what is none, as the text that it is."""
    try:
        return json.loads(data)
    except ValueError:
        return data


def _stands_at(text: str, name: str, start: int) -> bool:
    """Whether it is there, and neither end of it amid a word."""
    end = start + len(name)
    if start < 0 or not text.startswith(name, start):
        return False
    begins = start == 0 or not (text[start - 1].isalnum() and name[0].isalnum())
    return begins and (end == len(text) or not (text[end].isalnum() and name[-1].isalnum()))
