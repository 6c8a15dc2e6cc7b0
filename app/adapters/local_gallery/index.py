"""Exact search over rows that never change, by FAISS.

FAISS promises no order among equal scores, and its float32 sums differ in the last bits from those of another kernel. So
it finds a shortlist that reaches past every score near the k-th, and the shortlist is scored again, row by row in float64.
"""

import faiss
import numpy as np
import numpy.typing as npt

from app.ports import Floats

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
NEAR = 1e-5  # float32 sums of 2048 products are off by less than this: nearer scores may change places
_SPARE = 8  # asked for beyond k, so that a first search mostly reaches past the ties


def simd_level() -> str:
    """The instruction set that FAISS uses on this machine, such as `AVX512`: it decides the speed of a search."""
    return str(faiss.SIMDConfig.get_level_name())


class ExactIndex:
    """Unit vectors in memory, immutable after its making."""

    def __init__(self, vectors: Floats) -> None:
        """vectors: unit, float32 [n, dim]; copied."""
        self._flat = faiss.IndexFlatIP(vectors.shape[1])
        self._flat.add(np.ascontiguousarray(vectors))

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return int(self._flat.d)

    @property
    def bytes(self) -> int:
        """Memory that the vectors take."""
        return int(self._flat.ntotal * self._flat.d * 4)

    def vectors(self, rows: Rows) -> Floats:
        """Copies of these rows, float32 [n, dim]."""
        if not len(rows):  # FAISS refuses an empty list
            return np.empty((0, self._flat.d), dtype=np.float32)
        return np.asarray(self._flat.reconstruct_batch(rows), dtype=np.float32)

    def cosines(self, query: Floats) -> Floats:
        """Of all rows with a unit query float32 [dim], float32 [n]: off by less than `NEAR`."""
        rows, dim = self._flat.ntotal, self._flat.d
        stored = faiss.rev_swig_ptr(self._flat.get_xb(), rows * dim)  # FAISS's own memory, not copied
        return np.asarray(stored.reshape(rows, dim) @ query, dtype=np.float32)

    def search(self, query: Floats, k: int, accepted: Mask) -> tuple[Rows, Scores]:
        """Rows among which the k best accepted ones are, ties with the k-th included, in no order; and their cosines.

        query: unit, float32 [dim]. accepted: bool [n]. One query at a time, so that its answer depends on it alone:
        FAISS sums a batch of twenty and more in another way.
        """
        rows = self._shortlist(query, k, accepted)
        wide = query.astype(np.float64)
        # One dot product per row: equal vectors get equal scores, wherever they lie.
        scores = np.array([vector @ wide for vector in self.vectors(rows).astype(np.float64)], dtype=np.float64)
        return rows, np.clip(scores, -1, 1)

    def _shortlist(self, query: Floats, k: int, accepted: Mask) -> Rows:
        count = int(np.count_nonzero(accepted))
        bitmap = np.packbits(accepted, bitorder="little")
        # The selector points into `bitmap`, the parameters at the selector: all three must live as long as the search.
        selector = faiss.IDSelectorBitmap(bitmap)  # type: ignore[call-arg, arg-type]  # the stub is the C++ form
        parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]  # likewise
        wanted = min(k + _SPARE, count)
        while wanted:
            scores, rows = self._flat.search(query[None], wanted, params=parameters)
            if wanted == count or scores[0, k - 1] - scores[0, -1] > NEAR:
                return np.asarray(rows[0], dtype=np.int64)
            wanted = min(4 * wanted, count)
        return np.empty(0, dtype=np.int64)
