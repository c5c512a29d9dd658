"""Image files as pixels, for painting and for data preparation alike."""
