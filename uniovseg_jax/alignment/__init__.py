"""Mask-text alignment: frozen regions, one-to-one pairs with caption entities, their store."""
