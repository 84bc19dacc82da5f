"""The seam of orders: what others tell it."""

from monolith.orders.ledger import note_captured, note_refunded

__all__ = ["note_captured", "note_refunded"]
