"""An embedder in a process of its own, for a library that holds the interpreter's lock, or may take the process down."""

from app.adapters.worker.embedder import Deadlines, WorkerEmbedder

__all__ = ["Deadlines", "WorkerEmbedder"]
