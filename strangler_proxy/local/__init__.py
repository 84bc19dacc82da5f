"""Run both stacks side by side on one machine, with embedded parts."""
