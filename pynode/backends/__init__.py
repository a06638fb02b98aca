"""Where a method runs. A backend integrates forward and knows nothing of gradients."""
