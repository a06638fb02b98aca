"""Other packages' interfaces to pynode's methods."""
