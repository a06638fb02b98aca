"""The colours of all pictures."""

# Colours that colour-blind people can distinguish (Okabe & Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
