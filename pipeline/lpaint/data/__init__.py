"""Pictures to paint: where they come from, how they are packed, how training reads them."""
