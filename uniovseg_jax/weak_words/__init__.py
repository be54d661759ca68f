"""Photographs with label maps as an unpaired experiment: some give masks, others only words."""
