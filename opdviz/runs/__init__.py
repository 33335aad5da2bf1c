"""Relations between comparisons, and what is taken out of one: masks, overlaps, values."""
