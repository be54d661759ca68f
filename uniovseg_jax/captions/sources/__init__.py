"""Readers of the published layouts of captioned images."""
