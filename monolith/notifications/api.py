"""The seam of notifications: what others have to tell people."""

from monolith.notifications.letters import owe_receipt, welcome

__all__ = ["owe_receipt", "welcome"]
