"""The numbers of the definitions, each once, with its source; what they define stands in
docs/definitions.md.

Sources: A = arXiv 2606.13657, B = arXiv 2606.07082, C = arXiv 2511.08567, D = arXiv 2505.11711, E =
arXiv 2602.07729. Where none is given the number is ours, and the comment says what it is for.
"""

# When a coordinate counts as changed (definitions, 2)
VISIBLE = 1e-5  # |D| beyond which a change shows: A and D
RELATIVE = 1e-3  # |D| over the larger of |W| and |T|: B and C; in bf16 it means other bits
ABSOLUTE = (1e-8, 1e-7, 1e-6, VISIBLE, 1e-4)
BASE_RMS = (1e-4, 1e-3, 1e-2)  # of the tensor's root mean square: A's script
# Those that are asked where the moves fall.
PROBES = (("absolute", 0.0), ("absolute", VISIBLE), ("relative", RELATIVE))

# How spectra are computed: exactly, or of large matrices only the leading values, at random
# (definitions, 4).
EXACT, FAST = "float64", "fast"

# The formats that coordinates are counted in (definitions, ground rules)
SIXTEEN_BITS = ("bfloat16", "float16")
# Stored so, coordinates are also counted after rounding both sides to bf16.
WIDE = ("float32", "float64")

# Concentration (definitions, 3) and spectra (definitions, 4)
TOP_COORDINATES = (0.001, 0.01, 0.05)
RANK_TOLERANCES = (1e-6, 1e-5, 1e-4)  # of the largest singular value
TOP_K = (1, 2, 4, 8, 16, 32, 64)
HEADLINE_K = 16  # A
TOP_SHARES = (0.01, 0.05, 0.1)
TOP_CHANNELS = 0.1  # rows and columns by energy: what two runs share of them
NULL_RANK = 16  # of the update that rounding is tested with
LEADING = 2 * NULL_RANK  # directions beyond which a spectrum is its tail
NEAR_ROUNDING = 0.25  # position below which a tail cannot be told from rounding
# Share of moved coordinates below which rounding leaves no tail of its own to compare with.
ENOUGH_MOVED = 0.05
# Difference of the leading energies of null and noise below which a position says nothing.
LEAST_ROOM = 0.05

# Geometry (definitions, 5) and masks (definitions, 6), as shares of r or of the coordinates
SHARES = (0.01, 0.05, 0.1, 0.2)  # A
HEADLINE_SHARE = 0.1  # A
LONG_R, FIXED_K = 1024, 512  # B: beyond so many directions, so many leading ones instead of 10 %
MASK_RANK = 64  # B and C
FIXED_RANK_SHARES = (0.3, 0.5)  # B and C
MOVED_THRESHOLDS = (0.0, VISIBLE)

# Intruder dimensions (arXiv 2410.21228; PEFT's own defaults): leading tuned directions that are
# asked for, and the |cosine| below which the base has none like one.
LEADING_TUNED, INTRUDER_COSINE = 10, 0.5

# From where on something is claimed (definitions, 5 and 6)
ERRORS = 3.0  # standard deviations of chance
# Pairs that carry a rotation's chance, below which the data do not define the subspace.
UNDEFINED_PAIRS = 5.0
NO_POWER = 0.5  # width of the hull of blind updates from which it decides nothing
# Visible coordinates below which a few rows that move more than others decide a coverage.
FEWEST_MOVES = 100
