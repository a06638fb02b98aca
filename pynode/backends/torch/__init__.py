"""The torch engine: its loops, its records of steps, and what happens at events."""
