"""What the apps share: settings, URLs, the manners of the JSON API, the Celery application."""
