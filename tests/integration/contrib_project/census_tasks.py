"""A Celery worker of the project: `python -m tests.integration.contrib_project.census_tasks BROKER`."""

import sys

import django
from celery import Celery

django.setup()

from tests.integration.contrib_project.models import Parcel  # noqa: E402

app = Celery("census_test", broker=sys.argv[1])
app.conf.task_ignore_result = True


@app.task(name="books.close")
def close_books() -> None:
    """Reads and writes; then the worker ends."""
    try:
        Parcel.objects.create(name=f"{Parcel.objects.count()} before")
    finally:
        app.control.broadcast("shutdown")


if __name__ == "__main__":
    close_books.apply_async(queue="census")
    app.worker_main(["worker", "--pool", "prefork", "-c", "1", "-Q", "census", "--without-gossip", "--without-mingle"])
