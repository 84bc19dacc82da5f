"""The example monolith: a small shop that a team wants to take apart. Imports of the toolkit: contrib only."""
