"""Between those who want a vector and the devices that make them."""

from app.engine.engine import Engine, Observer
from app.engine.lane import Device, Lane, Proof, Prove, trust
from app.engine.queue import Embedding

__all__ = ["Device", "Embedding", "Engine", "Lane", "Observer", "Proof", "Prove", "trust"]
