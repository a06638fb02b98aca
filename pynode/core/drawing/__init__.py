"""The style of all pictures: colours, symbols, labels, panels and legends."""
