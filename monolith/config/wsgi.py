"""What gunicorn serves: `gunicorn monolith.config.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "monolith.config.settings")
application = get_wsgi_application()
