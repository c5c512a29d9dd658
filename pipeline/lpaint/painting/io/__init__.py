"""Files of paintings: images, time-lapses, SVG, strokes files, pixel art."""
