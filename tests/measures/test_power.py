"""Power: each claim is made where it was planted, and nowhere else. The table stands at the end of
the tests' output.
"""

import numpy as np
import pytest

from opdviz.checkpoint.formats import rounded
from opdviz.measures import coverage, geometry, spectrum
from tests.measures.blind_updates import work_on

SHAPE = (320, 256)
CLAIMS = (
    "on large weights",
    "on small weights",
    "along the base",
    "off the base",
    "concentrated",
    "tail",
)
OPEN = "open"


def base_of(rng: np.random.Generator, dtype: str) -> np.ndarray:
    """Weights with a falling spectrum and small noise, as they are stored."""
    left, right = (np.linalg.qr(rng.standard_normal((size, 256)))[0] for size in SHAPE)
    return rounded(
        0.02 * np.sqrt(320) * (left / np.sqrt(np.arange(1, 257)) ** 0.5) @ right.T, dtype
    )


def low_rank(rng: np.random.Generator, rank: int) -> np.ndarray:
    """A random update of a rank, of rms 1."""
    x = rng.standard_normal((SHAPE[0], rank)) @ rng.standard_normal((rank, SHAPE[1]))
    return x / np.sqrt(np.mean(x**2))


def along(rng: np.random.Generator, base: np.ndarray, *, inside: bool) -> np.ndarray:
    """Noise inside the leading tenth of the base's directions on both sides, or outside of it, of
    rms 1.
    """
    u, _, vt = np.linalg.svd(base, full_matrices=False)
    p, q = u[:, :25] @ u[:, :25].T, vt[:25].T @ vt[:25]
    noise = rng.standard_normal(SHAPE)
    x = p @ noise @ q if inside else (np.eye(SHAPE[0]) - p) @ noise @ (np.eye(SHAPE[1]) - q)
    return x / np.sqrt(np.mean(x**2))


def aimed(rng: np.random.Generator, base: np.ndarray, *, large: bool) -> np.ndarray:
    """Noise on the larger, or on the smaller half of the weights alone."""
    half = np.abs(base) > np.median(np.abs(base))
    return np.where(half == large, 1.0, 0.0) * rng.standard_normal(SHAPE)


# an update, its size, how it is stored, and what is true of it; what is not listed is false, None
# is not asked
PLANTED = {
    "noise": (lambda rng, w: rng.standard_normal(SHAPE), 3e-4, "bfloat16", {"tail": "spread"}),
    "constant size": (lambda rng, w: rng.choice([-1.0, 1.0], SHAPE), 1e-4, "bfloat16", {"tail": "spread"}),
    "sparse noise": (lambda rng, w: rng.standard_normal(SHAPE) * (rng.random(SHAPE) < 0.02), 3e-4, "bfloat16", {"tail": OPEN}),
    "on large weights": (lambda rng, w: aimed(rng, w, large=True), 3e-4, "bfloat16",
                         {"on large weights": True, "tail": "spread"}),
    "on small weights": (lambda rng, w: aimed(rng, w, large=False), 3e-4, "float32",
                         {"on small weights": True, "tail": None}),
    "along the base": (lambda rng, w: along(rng, w, inside=True), 3e-4, "bfloat16",
                       {"along the base": True, "concentrated": True, "tail": None, "on large weights": None}),
    "off the base": (lambda rng, w: along(rng, w, inside=False), 3e-4, "bfloat16", {"off the base": True, "tail": "spread"}),
    "rank 4": (lambda rng, w: low_rank(rng, 4), 3e-5, "bfloat16", {"concentrated": True, "tail": "like rounding"}),
    "rank 16": (lambda rng, w: low_rank(rng, 16), 3e-5, "bfloat16", {"concentrated": True, "tail": "like rounding"}),
    "rank 128": (lambda rng, w: low_rank(rng, 128), 3e-5, "bfloat16", {"concentrated": None, "tail": "spread"}),
}  # fmt: skip


def verdicts(base: np.ndarray, tuned: np.ndarray, dtype: str) -> dict[str, object]:
    """What the stored numbers let us claim of an update."""
    pair, work = work_on(base, tuned, dtype)
    small = next(r for r in coverage.rows(pair, work)["coverage"] if (r["precision"], r["mask"], r["share"], r["threshold"])
                 == ("stored", "low_magnitude", 0.1, 1e-5))  # fmt: skip
    joint = next(r for r in geometry.projections(work) if (r["side"], r["share"]) == ("joint", 0.1))
    spectral = spectrum.rows(pair, work)
    top = next(r for r in spectral["top_energy"] if (r["matrix"], r["k"]) == ("delta", 16))
    return {
        "on large weights": small["coverage"] < small["blind_low"],
        "on small weights": small["coverage"] > small["blind_high"],
        "along the base": joint["energy"] > joint["chance"] + 3 * joint["chance_sd"],
        "off the base": joint["energy"] < joint["chance"] - 3 * joint["chance_sd"],
        "concentrated": top["energy"] > 1.5 * top["chance"],
        "tail": spectral["tail"][0]["verdict"],
    }


@pytest.mark.parametrize("name", PLANTED)
def test_a_claim_is_made_where_it_is_true_and_nowhere_else(name, record_property):
    make, size, dtype, truth = PLANTED[name]
    rng = np.random.default_rng(11)
    base = base_of(rng, dtype)
    verdict = verdicts(base, base + size * make(rng, base), dtype)
    record_property("planted", (name, *(f"{verdict[claim]}" for claim in CLAIMS)))
    for claim in CLAIMS:
        expected = truth.get(claim, False)
        if expected is not None:
            assert verdict[claim] == expected, (claim, verdict)
