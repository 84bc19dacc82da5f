"""A stand-in for a card processor: a process of its own with a durable ledger.

Specified in docs/reference/http-api.md, "The card processor". Run it with
`python -m tests.fakes.card_processor --port 8004`. Its ledger is how anyone proves that nobody was charged twice.
"""
