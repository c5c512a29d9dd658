"""Training images: sources (``sources``), preparation (``prepare``, ``packing``) and reading (``dataset``)."""
