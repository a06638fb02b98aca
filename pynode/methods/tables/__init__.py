"""Published coefficients, one method a file. ``pynode.methods.tableau`` defines the symbols."""
