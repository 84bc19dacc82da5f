"""For a Starlette service: context and fence as pure ASGI middleware, recorded connections, health routes."""
