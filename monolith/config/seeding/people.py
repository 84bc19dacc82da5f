"""People who were here before. All have the same password, and one hash of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from django.contrib.auth.hashers import make_password

from monolith.accounts.models import User
from monolith.notifications.models import MailPreference

USERS = 500
PASSWORD = "shop example password"
ADMIN_EMAIL = "admin@example.com"

_FIRST = (
    "Ada",
    "Ben",
    "Chidi",
    "Dana",
    "Emil",
    "Farah",
    "Grete",
    "Hugo",
    "Ines",
    "Jamal",
    "Kaya",
    "Linus",
    "Mei",
    "Noor",
)
_LAST = ("Abel", "Brandt", "Costa", "Duarte", "Eriksen", "Fontaine", "Gupta", "Haddad", "Ivanova", "Jensen", "Kim")


def make_people(rng: Random, first_day: datetime) -> list[User]:
    """500 users, the first one an administrator."""
    password = make_password(PASSWORD, salt="the-same-for-everybody")
    people = [_admin(password, first_day)]
    for number in range(2, USERS + 1):
        name = f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"
        since = first_day + timedelta(seconds=rng.randrange(30 * 86_400), microseconds=rng.randrange(1_000_000))
        people.append(User(email=f"user{number}@example.com", name=name, password=password, created_at=since))
    made = User.objects.bulk_create(people, batch_size=500)
    # bulk_create sends no signals: what relies on them is made here.
    MailPreference.objects.bulk_create([MailPreference(user=user) for user in made], ignore_conflicts=True)
    return made


def _admin(password: str, since: datetime) -> User:
    return User(
        email=ADMIN_EMAIL, name="Alex Admin", password=password, created_at=since, is_staff=True, is_superuser=True
    )
