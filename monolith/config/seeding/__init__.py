"""What `manage.py seed` puts into an empty shop: the same every time."""
