"""Django's settings of the example monolith. Everything that differs between machines comes from `environment.py`."""

import os
from pathlib import Path

from monolith.config.environment import read_environment
from strangler_proxy.contrib.observe import configure_logging

ENVIRONMENT = read_environment(os.environ)
HERE = Path(__file__).resolve().parent

DEBUG = ENVIRONMENT.debug
SECRET_KEY = ENVIRONMENT.secret_key
ALLOWED_HOSTS = list(ENVIRONMENT.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(ENVIRONMENT.trusted_origins)
CSRF_FAILURE_VIEW = "monolith.config.errors.csrf_failed"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "strangler_proxy.contrib.django",
    "monolith.config",
    "monolith.accounts",
    "monolith.catalog",
    "monolith.orders",
    "monolith.payments",
    "monolith.notifications",
]
MIDDLEWARE = [
    "strangler_proxy.contrib.django.middleware.RequestContextMiddleware",
    "strangler_proxy.contrib.django.middleware.FenceMiddleware",
    "strangler_proxy.contrib.django.shadow.ShadowMiddleware",
    "monolith.config.middleware.ApiErrorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
STRANGLER = {"ORIGIN": "monolith", "DATABASE": "default", "CENSUS": True}

ROOT_URLCONF = "monolith.config.urls"
WSGI_APPLICATION = "monolith.config.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [HERE / "templates"],
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
    "default": {**ENVIRONMENT.database, "CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True, "ATOMIC_REQUESTS": False}
}
DATABASES["default"]["OPTIONS"].setdefault("connect_timeout", "5")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["monolith.accounts.backends.SeamBackend"]
# Few rounds on purpose, so that a demonstration measures routing and not hashing. Not for a real shop.
PASSWORD_HASHERS = [
    "monolith.accounts.hashers.ExamplePBKDF2PasswordHasher",
    "django.contrib.auth.hashers.Argon2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "/sign-in/"
LOGIN_REDIRECT_URL = "/"
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STATICFILES_DIRS = [HERE / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576

LOGGING_CONFIG = None
configure_logging("monolith")

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["monolith.accounts.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "monolith.config.negotiation.AlwaysJson",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "URL_FORMAT_OVERRIDE": None,
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "The shop",
    "DESCRIPTION": "The example monolith's JSON API. Errors are application/problem+json.",
    "VERSION": "1.0.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {
        "IntentStatusEnum": "monolith.payments.rules.IntentStatus",
        "RefundStatusEnum": "monolith.payments.rules.RefundStatus",
        "OrderStatusEnum": "monolith.orders.rules.OrderStatus",
    },
}

EMAIL_BACKEND = "monolith.notifications.mailbox.FileMailbox"
EMAIL_FILE_PATH = ENVIRONMENT.email_dir
DEFAULT_FROM_EMAIL = "shop@example.com"

SHOP_EXCHANGE = "shop.events"
SHOP_EVENTS_QUEUE = "monolith.events"
SHOP_SEAM_TIMEOUT_S = 8.0
"""Longer than a cutover's hold at the proxy (5 s), so that a held request is waited for."""
SHOP_IN_DOUBT_AFTER_S = 15
