"""For a Django project (4.2 and newer, Python 3.9 and newer): context, fence, ownership, seam, admin, health.

Add `"strangler_proxy.contrib.django"` to `INSTALLED_APPS` and, first of all middleware and in this order,
`strangler_proxy.contrib.django.middleware.RequestContextMiddleware` and `...FenceMiddleware`.
"""
