"""The folder of a comparison: what stands in it, how it is written, read, and held to account."""
