"""Painting without torch: read a picture, find strokes with an exported model, draw them, write the result."""
