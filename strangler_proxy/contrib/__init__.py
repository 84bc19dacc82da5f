"""What a user's own systems import: Django, Starlette, Celery, messages between services, logs.

Importing this package imports nothing: each part needs only its own library.
"""
