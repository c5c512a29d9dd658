"""The search for strokes: canvases, candidate strokes, colours, geometry, resizing. NumPy only."""
