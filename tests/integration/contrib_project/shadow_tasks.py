"""Tasks of the project; nobody runs them."""

from tests.integration.contrib_project.shadow_settings import celery


@celery.task(name="parcels.count")
def count_parcels(number: int, again: bool = False) -> None:
    """Never run."""
