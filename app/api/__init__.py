"""The HTTP face: routes, schemas, problem+json, metrics. No logic."""

from app.api.app import create_app, create_upkeep_app

__all__ = ["create_app", "create_upkeep_app"]
