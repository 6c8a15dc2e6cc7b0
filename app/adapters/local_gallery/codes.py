"""One-bit codes of rows that never change: they choose what is then scored exactly. With `index.py` the only user of FAISS.

RaBitQ (Gao and Long, 2024) as FAISS's IndexIVFRaBitQFastScan with a single list has it: that one takes an ID selector, which
the index without lists refuses. Codes are taken around a centre, which is fixed with the first rows; codes around the same
centre can be joined without their vectors.
"""

from collections.abc import Iterable, Sequence

import faiss
import numpy as np
import numpy.typing as npt

from app.adapters.local_gallery.index import Mask, Rows
from app.ports import Floats

Estimates = npt.NDArray[np.float32]
_WIPE = 64  # rows: two of the blocks of 32 in which FAISS packs codes
_FILLER = 2**40  # numbers of rows that are added to be removed; far from any other's
# FAISS adds up a row's products in 16 bits, and scales them to just that: a row that is the query itself reaches the end, and
# by rounding passes it, and is then taken for the farthest. Two of these numbers, which all rows have as 0, make room.
_ROOM = 8
_ROOM_SHARE = 1 / 128  # of the largest sum; rounding adds up to 0.5 for each four numbers, of 65,535


class CodeIndex:
    """Codes in memory, immutable after its making. Row i has the number `ids[i]` inside FAISS; numbers ascend."""

    def __init__(self, codes: faiss.IndexIVFRaBitQFastScan, ids: Rows) -> None:
        self._codes, self._ids = codes, ids

    @classmethod
    def of(cls, parts: Iterable[Floats], centre: Floats) -> "CodeIndex":
        """Of unit vectors float32 [n, dim], in pieces, around float32 [dim]."""
        codes = _empty(centre)
        for part in parts:
            if len(part):  # FAISS refuses to add nothing
                codes.add(_wide(part))
        return cls(codes, np.arange(codes.ntotal, dtype=np.int64))

    @classmethod
    def read(cls, stored: npt.NDArray[np.uint8], ids: Rows) -> "CodeIndex":
        """What `stored` gave. Raises ValueError."""
        try:
            codes = faiss.deserialize_index(stored)
        except RuntimeError as error:  # FAISS's own exceptions arrive as that
            raise ValueError(str(error)) from error
        if not isinstance(codes, faiss.IndexIVFRaBitQFastScan) or codes.ntotal != len(ids):
            raise ValueError(f"{type(codes).__name__} of {codes.ntotal} rows, not codes of {len(ids)}")
        return cls(codes, ids)

    @classmethod
    def joined(cls, parts: Sequence[tuple["CodeIndex", Rows]]) -> "CodeIndex":
        """These rows (ascending) of some indexes around the same centre, one after another."""
        (part, rows), *others = parts
        whole = part._only(rows)
        codes, ids = whole._codes, [whole._ids]  # a copy, which may be changed
        first = int(whole._ids[-1]) + 1 if len(rows) else 0
        for part, rows in others:
            kept = part._only(rows)
            _merge(codes, kept._codes, first)
            ids.append(kept._ids + first)
            first = int(ids[-1][-1]) + 1 if len(rows) else first
        return cls(codes, _renumbered(codes, np.concatenate(ids)))

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return int(self._codes.d) - _ROOM

    @property
    def centre(self) -> Floats:
        """What the codes are taken around, float32 [dim]."""
        return np.asarray(self._codes.quantizer.reconstruct(0)[:-_ROOM], dtype=np.float32)

    @property
    def bytes(self) -> int:
        """Memory that the codes take."""
        return int(self._codes.ntotal * (self._codes.code_size + 8)) + self._ids.nbytes

    @property
    def ids(self) -> Rows:
        """The rows' numbers inside FAISS."""
        return self._ids

    def stored(self) -> npt.NDArray[np.uint8]:
        """As bytes for a file; `ids` belongs to it."""
        return np.asarray(faiss.serialize_index(self._codes))

    def search(self, query: Floats, count: int, accepted: Mask) -> tuple[Rows, Estimates]:
        """About the `count` accepted rows that are nearest to a unit query float32 [dim], and estimates of their cosines."""
        count = min(count, int(np.count_nonzero(accepted)))
        if not count:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        bitmap = np.packbits(accepted if self._dense else self._spread(accepted), bitorder="little")
        # The selector points into `bitmap`, the parameters at the selector: all three must live as long as the search.
        selector = faiss.IDSelectorBitmap(bitmap)  # type: ignore[call-arg, arg-type]  # the stub is the C++ form
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=1)  # type: ignore[call-arg]  # likewise
        asked = _wide(query[None])
        room = _ROOM_SHARE * float(np.abs(query - self.centre).sum())
        asked[0, -2:] = room, -room
        squares, found = self._codes.search(asked, count, params=parameters)
        found, squares = found[0][found[0] >= 0], squares[0][found[0] >= 0] - 2 * room**2
        rows = found if self._dense else np.searchsorted(self._ids, found)
        return rows, np.asarray(1 - squares / 2, dtype=np.float32)

    @property
    def _dense(self) -> bool:
        """Whether rows have their own numbers inside FAISS."""
        return not len(self._ids) or int(self._ids[-1]) + 1 == len(self._ids)

    def _spread(self, accepted: Mask) -> Mask:
        """A mask over rows as one over numbers."""
        mask = np.zeros(int(self._ids[-1]) + 1, dtype=bool)
        mask[self._ids] = accepted
        return mask

    def _only(self, rows: Rows) -> "CodeIndex":
        """A copy with these rows alone."""
        codes: faiss.IndexIVFRaBitQFastScan = faiss.clone_index(self._codes)  # type: ignore[assignment]  # of the same class
        ids = self._ids[rows]
        gone = np.setdiff1d(self._ids, ids, assume_unique=True)
        if len(gone):
            codes.remove_ids(gone)  # type: ignore[arg-type]  # the stub is the C++ form
            _wipe(codes)
        return CodeIndex(codes, ids)


def _empty(centre: Floats) -> faiss.IndexIVFRaBitQFastScan:
    quantizer = faiss.IndexFlatL2(len(centre) + _ROOM)
    quantizer.add(_wide(centre[None]))
    codes = faiss.IndexIVFRaBitQFastScan(quantizer, quantizer.d, 1, faiss.METRIC_L2)
    codes.referenced_objects = [quantizer]  # type: ignore[attr-defined]  # FAISS keeps a bare pointer
    codes.is_trained = True  # a single list's centre is all that training would find
    return codes


def _wide(vectors: Floats) -> Floats:
    """A copy with room: float32 [n, dim + _ROOM]."""
    return np.pad(vectors, ((0, 0), (0, _ROOM)))


def _merge(codes: faiss.IndexIVFRaBitQFastScan, more: faiss.IndexIVFRaBitQFastScan, first: int) -> None:
    """Move rows into an index, `first` being added to their numbers."""
    # FAISS 1.15.1 (BlockInvertedLists::add_entries) compares a number of rows with one of bytes: where the rows that are there
    # are a multiple of a block's bytes, it writes past the end. One row more, for that time, keeps it from there.
    lists = faiss.downcast_InvertedLists(codes.invlists)  # type: ignore[arg-type]  # which are there
    even = codes.ntotal % lists.block_size == 0  # type: ignore[attr-defined]  # of BlockInvertedLists, not in the stub
    if even:
        _fill(codes, 1)
    codes.merge_from(more, first)
    if even:
        _wipe(codes)


def _renumbered(codes: faiss.IndexIVFRaBitQFastScan, ids: Rows) -> Rows:
    """Give each row its place as its number, else a search's bitmap would grow with all rows that ever were."""
    lists = faiss.downcast_InvertedLists(codes.invlists)  # type: ignore[arg-type]  # which are there
    numbers = faiss.rev_swig_ptr(lists.get_ids(0), codes.ntotal)  # the memory itself
    numbers[:] = np.searchsorted(ids, numbers)
    return np.arange(len(ids), dtype=np.int64)


def _wipe(codes: faiss.IndexIVFRaBitQFastScan) -> None:
    """Overwrite what FAISS leaves of removed rows: it moves the last rows into the holes, and their old places stay."""
    _fill(codes, _WIPE)
    codes.remove_ids(np.arange(_FILLER, _FILLER + _WIPE))  # type: ignore[arg-type]  # the stub is the C++ form


def _fill(codes: faiss.IndexIVFRaBitQFastScan, count: int) -> None:
    rows = np.repeat(np.asarray(codes.quantizer.reconstruct(0), dtype=np.float32)[None] + 1, count, axis=0)
    codes.add_with_ids(rows, np.arange(_FILLER, _FILLER + count))
