"""Showing what the exits did: the trace of one text, a view of a whole run, and the page both are shown on."""
