"""The command `reid` (`python -m app`)."""

import os

# FAISS starts OpenMP threads per search, which makes one query slower; it reads this before it is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from app.cli import main

if __name__ == "__main__":
    main()
