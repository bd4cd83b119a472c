"""Rows in flight: how the tokens of many texts lie packed in memory."""
