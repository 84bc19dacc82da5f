"""Settings with a second way to the database, and the routes of `straggler_views`."""

from tests.integration.contrib_project.settings import *  # noqa: F403
from tests.integration.contrib_project.settings import DATABASES

ROOT_URLCONF = "tests.integration.contrib_project.straggler_urls"
DATABASES["second"] = {**DATABASES["default"]}
