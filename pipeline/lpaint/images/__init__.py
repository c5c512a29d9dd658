"""Reading image files, for painting and for data preparation."""
