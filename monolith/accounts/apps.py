"""People: who they are, how they prove it."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Capability `auth`."""

    name = "monolith.accounts"
