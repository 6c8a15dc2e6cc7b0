"""`GalleryStore` on SQLite, which is the truth, and FAISS, which is derived from it and lives in memory only.

Set OMP_NUM_THREADS=1 before this is imported (`app.__main__` does): FAISS answers one query slower on two threads.
"""

from app.adapters.local_gallery.gallery import LocalGallery
from app.adapters.local_gallery.index import simd_level

__all__ = ["LocalGallery", "simd_level"]
