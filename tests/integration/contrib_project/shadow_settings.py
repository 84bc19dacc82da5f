"""Settings of the project with shadow mode: what differs between test runs comes from `CONTRIB_TEST_*`."""

import os
from urllib.parse import urlsplit

from celery import Celery

from strangler_proxy.contrib.celery import install
from tests.integration.contrib_project.settings import *  # noqa: F403
from tests.integration.contrib_project.settings import DATABASES, MIDDLEWARE, STRANGLER

SECRET = "of-the-mirror-of-a-test-0123456789"

ROOT_URLCONF = "tests.integration.contrib_project.shadow_urls"
MIDDLEWARE = [*MIDDLEWARE[:2], "strangler_proxy.contrib.django.shadow.ShadowMiddleware", *MIDDLEWARE[2:]]
_secret = os.environ.get("CONTRIB_TEST_SECRET", SECRET)
STRANGLER = {**STRANGLER, **({"SHADOW_SECRET": _secret} if _secret else {})}

ATOMIC_REQUESTS = os.environ.get("CONTRIB_TEST_ATOMIC") == "1"
_second = urlsplit(os.environ["CONTRIB_TEST_SECOND_URL"])
DATABASES["default"]["ATOMIC_REQUESTS"] = ATOMIC_REQUESTS
DATABASES["second"] = {**DATABASES["default"], "NAME": _second.path[1:], "ATOMIC_REQUESTS": False}
DATABASES["lite"] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": os.environ["CONTRIB_TEST_FOLDER"] + "/lite.db",
}

CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "valkey": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": os.environ["CONTRIB_TEST_VALKEY"]},
    "files": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": os.environ["CONTRIB_TEST_FOLDER"] + "/cache",
    },
}
SESSION_ENGINE = os.environ.get("CONTRIB_TEST_SESSIONS", "django.contrib.sessions.backends.db")
SESSION_FILE_PATH = os.environ["CONTRIB_TEST_FOLDER"]
SESSION_CACHE_ALIAS = "valkey"
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = os.environ["CONTRIB_TEST_FOLDER"] + "/mail"
MEDIA_ROOT = os.environ["CONTRIB_TEST_FOLDER"] + "/media"

CONTRIB_BROKER = os.environ["CONTRIB_TEST_BROKER"]
celery = Celery("contrib_project", set_as_current=False)
celery.conf.update(
    broker_url=CONTRIB_BROKER, task_ignore_result=True, broker_connection_timeout=2, task_default_queue="tasks"
)
install(celery)
