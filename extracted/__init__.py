"""The example's extracted services. Each is a program of its own; none imports another, or the monolith."""
