"""Settings; the database comes from `CONTRIB_TEST_DATABASE_URL`."""

import os
from urllib.parse import urlsplit

from strangler_proxy.contrib.observe import configure_logging

_url = urlsplit(os.environ["CONTRIB_TEST_DATABASE_URL"])
SECRET_KEY = "of-a-test-and-long-enough-0123456789-0123456789"
ALLOWED_HOSTS = ["*"]
DEBUG = False
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "strangler_proxy.contrib.django",
    "tests.integration.contrib_project",
]
MIDDLEWARE = [
    "strangler_proxy.contrib.django.middleware.RequestContextMiddleware",
    "strangler_proxy.contrib.django.middleware.FenceMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "tests.integration.contrib_project.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.path[1:],
        "USER": _url.username,
        "PASSWORD": _url.password or "",
        "HOST": _url.hostname,
        "PORT": str(_url.port),
        "CONN_MAX_AGE": 60,
    }
}
STRANGLER = {"ORIGIN": "monolith", "SERVICE": "parcels", "READ_TIMEOUT_MS": 500}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING_CONFIG = None
configure_logging("parcels")
