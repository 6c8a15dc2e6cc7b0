"""Implementations of the ports, one library each. Only `app.wiring` chooses among them."""
