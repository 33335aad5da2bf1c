"""Making a comparison: match, fingerprint, measure over a pool of processes, keep every finished
part.
"""
