"""Settings of the project whose views `manage.py check` reads; `CONTRIB_TEST_ATOMIC=1` puts each request in atomic."""

import os

from tests.integration.contrib_project.settings import *  # noqa: F403
from tests.integration.contrib_project.settings import DATABASES

ROOT_URLCONF = "tests.integration.contrib_project.checked_views"
DATABASES["default"]["ATOMIC_REQUESTS"] = os.environ.get("CONTRIB_TEST_ATOMIC") == "1"
SILENCED_SYSTEM_CHECKS = os.environ.get("CONTRIB_TEST_SILENCED", "").split()
