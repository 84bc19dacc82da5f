"""A Django project of a few views, run in processes of its own: its settings must not meet those of the example."""
