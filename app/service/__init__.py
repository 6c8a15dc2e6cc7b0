"""The use cases, in the words of the README: embed, search, index, evaluate, and the collections they work on."""

from app.service.service import Service

__all__ = ["Service"]
