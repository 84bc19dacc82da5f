"""The shared parts as a Django app: templates, static files, the seed command, and the Celery application."""

from django.apps import AppConfig


class SharedConfig(AppConfig):
    """Loads the Celery application, so that shared tasks have one wherever Django runs."""

    name = "monolith.config"
    label = "shop"

    def ready(self) -> None:
        """Import for its effect: the application becomes the current one."""
        from monolith.config import celery  # noqa: F401
