"""Pure decisions: values in, a value out. No clock, no socket, no randomness, no logging."""
