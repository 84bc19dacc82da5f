"""The auth service: accounts, sign-in and access tokens, taken out of the monolith.

What it answers is specified, to the letter, in docs/reference/http-api.md.
"""
