"""Runs that take long: their folder while they are under way, interruption, and going on where one stopped."""
