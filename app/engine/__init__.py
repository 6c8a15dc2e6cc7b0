"""Between those who want a vector and the devices that make them."""

from app.engine.engine import Embedding, Engine, Observer
from app.engine.lane import Device, Lane, Proof, Prove, trust

__all__ = ["Device", "Embedding", "Engine", "Lane", "Observer", "Proof", "Prove", "trust"]
