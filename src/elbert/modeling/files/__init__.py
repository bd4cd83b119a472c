"""Model folders: finding, reading, checking and writing them."""
