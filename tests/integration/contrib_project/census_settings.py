"""Settings of a project whose code is counted, as a role of its own; with shadow mode, and a second alias."""

from tests.integration.contrib_project.settings import *  # noqa: F403
from tests.integration.contrib_project.settings import DATABASES, MIDDLEWARE, STRANGLER

SECRET = "of-the-mirror-of-a-test-0123456789"

ROOT_URLCONF = "tests.integration.contrib_project.census_urls"
MIDDLEWARE = [*MIDDLEWARE[:2], "strangler_proxy.contrib.django.shadow.ShadowMiddleware", *MIDDLEWARE[2:]]
STRANGLER = {**STRANGLER, "CENSUS": True, "SHADOW_SECRET": SECRET}
DATABASES["second"] = {**DATABASES["default"]}
