"""What people are told by e-mail."""

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_save


class NotificationsConfig(AppConfig):
    """Stays in the monolith; relies on hearing of every new user."""

    name = "monolith.notifications"

    def ready(self) -> None:
        """Hear of users made here. Of users made elsewhere, whose rows the applier brings, the event tells."""
        from monolith.notifications import signals

        post_save.connect(signals.user_saved, sender=settings.AUTH_USER_MODEL, dispatch_uid="notifications_user_saved")
