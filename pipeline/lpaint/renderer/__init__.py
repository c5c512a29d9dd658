"""Neural renderers: networks that learn to draw a stroke's opacity from its shape numbers."""
