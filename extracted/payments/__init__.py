"""The payments service: intents, captures, refunds and settlements, taken out of the monolith.

What it answers is specified, to the letter, in docs/reference/http-api.md.
"""
