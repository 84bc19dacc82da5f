"""The project's routes, and those of `straggler_views`."""

from __future__ import annotations

from django.urls import path

from tests.integration.contrib_project import straggler_views, urls

NAMES = [
    "on_commit_of_a_write",
    "on_commit_of_nothing",
    "nested_atomics",
    "in_a_pool",
    "in_a_pool_after_a_commit",
    "committed_elsewhere",
    "asynchronous",
    "asynchronous_after_a_commit",
    "streamed_after_a_commit",
    "handled",
]

urlpatterns = [
    *urls.urlpatterns,
    *[path(name.replace("_", "-"), getattr(straggler_views, name)) for name in NAMES],
]
