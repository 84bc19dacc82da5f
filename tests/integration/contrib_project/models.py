"""`Parcel` moves, `Note` stays. Their tables are made by the tests."""

from django.db import models


class Parcel(models.Model):
    """A row that moves."""

    name = models.TextField()

    class Meta:
        """Made by hand."""

        app_label = "contrib_project"
        db_table = "parcel"
        managed = False


class Note(models.Model):
    """A row that stays."""

    text = models.TextField()

    class Meta:
        """Made by hand."""

        app_label = "contrib_project"
        db_table = "note"
        managed = False
