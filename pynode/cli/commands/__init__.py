"""The commands with their options, a module each. None of them imports torch before it runs,
because help must not wait for it."""
