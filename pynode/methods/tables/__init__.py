"""The published numbers, one method a file; see ``pynode.methods.tableau`` for the symbols."""
