"""Between those who want a vector and the device that makes them."""

from app.engine.engine import Embedding, Engine, Observer

__all__ = ["Embedding", "Engine", "Observer"]
