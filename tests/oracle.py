"""The slow, obvious implementation of docs/definitions.md: dense SVDs, whole-array passes, sampled
nulls. For tests and bench.
"""

import math

import numpy as np

from opdviz.checkpoint.formats import rounded

SHARES = (0.01, 0.05, 0.1, 0.2)
THRESHOLDS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)


def coordinates(w: np.ndarray, t: np.ndarray) -> dict[str, float]:
    """Magnitude, sparsity and concentration of one tensor in float64."""
    w, t = w.astype(np.float64), t.astype(np.float64)
    d = t - w
    size = np.abs(d)
    out = {
        "base_norm": np.linalg.norm(w),
        "tuned_norm": np.linalg.norm(t),
        "delta_norm": np.linalg.norm(d),
        "cosine": np.sum(w * t) / np.linalg.norm(w) / np.linalg.norm(t),
        "shrink": np.sum(d * w) / np.sum(w * w),
        "exact": np.mean(d == 0),
        "relative": np.mean(size <= 1e-3 * np.maximum(np.abs(w), np.abs(t))),
    }
    for threshold in THRESHOLDS:
        out[f"absolute_{threshold}"] = np.mean(size <= threshold)
    rms = np.sqrt(np.mean(w**2))
    for tau in (1e-4, 1e-3, 1e-2):
        out[f"base_rms_{tau}"] = np.mean(size < tau * rms)
    squares = np.sort((d**2).reshape(-1))[::-1]
    for share in (0.001, 0.01, 0.05):
        out[f"top_{share}"] = squares[: math.ceil(share * d.size)].sum() / squares.sum()
    return out


def spectra(w: np.ndarray, t: np.ndarray) -> dict[str, float]:
    """Spectrum and geometry of one matrix from full SVDs in float64."""
    w, t = w.astype(np.float64), t.astype(np.float64)
    d = t - w
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    u2, s2, vt2 = np.linalg.svd(t, full_matrices=False)
    sd = np.linalg.svd(d, compute_uv=False)
    energy, p = sd**2 / np.sum(sd**2), sd / np.sum(sd)
    total = np.sum(d**2)
    out = {
        "stable_rank": np.sum(sd**2) / sd[0] ** 2,
        "entropy_rank": np.exp(-np.sum(p[p > 0] * np.log(p[p > 0]))),
        "energy_entropy_rank": np.exp(-np.sum(energy[energy > 0] * np.log(energy[energy > 0]))),
        "drift": np.linalg.norm(s2 - s),
        "nss": np.linalg.norm(s2 - s) / np.linalg.norm(s),
    }
    shrink = np.sum(d * w) / np.sum(w * w)
    for share in SHARES:
        k = max(1, int(share * len(s)))
        uk, vk = u[:, :k], vt[:k].T
        for prefix, x in (("", d), ("without_", d - shrink * w)):
            size = np.sum(x**2)
            out[f"{prefix}joint_{share}"] = np.sum((uk.T @ x @ vk) ** 2) / size
            out[f"{prefix}left_{share}"] = np.sum((uk.T @ x) ** 2) / size
            out[f"{prefix}right_{share}"] = np.sum((x @ vk) ** 2) / size
        for side, a, b in (("left", uk, u2[:, :k]), ("right", vk, vt2[:k].T)):
            sines = np.linalg.svd(b - a @ (a.T @ b), compute_uv=False)
            out[f"mean_sine_{side}_{share}"] = sines.mean()
            out[f"rms_sine_{side}_{share}"] = np.sqrt(np.mean(sines**2))
            out[f"max_degrees_{side}_{share}"] = np.degrees(np.arcsin(min(sines[0], 1.0)))
    assert total > 0
    return out


def mask_weights(values: np.ndarray, share: float) -> np.ndarray:
    """A mask of the largest values: 1 inside, the tied share the remaining places equally."""
    k = max(1, math.ceil(share * values.size))
    cut = np.sort(values.reshape(-1))[::-1][k - 1]
    weight = (values > cut).astype(np.float64)
    tied = values == cut
    weight[tied] = (k - weight.sum()) / tied.sum()
    return weight


def masks(w: np.ndarray, stored: np.ndarray, share: float, rank: int) -> dict[str, np.ndarray]:
    """The four masks; magnitudes of `w`, the reconstruction of `stored`."""
    u, s, vt = np.linalg.svd(stored.astype(np.float64), full_matrices=False)
    principal = mask_weights(np.abs((u[:, :rank] * s[:rank]) @ vt[:rank]), share)
    low = mask_weights(-np.abs(w.astype(np.float64)), share)
    not_low = principal * (1 - low)
    return {
        "principal": principal,
        "low_magnitude": low,
        "principal_not_low": not_low,
        "nonprincipal_or_low": 1 - not_low,
    }


def visible(w: np.ndarray, t: np.ndarray, probe: str, threshold: float) -> np.ndarray:
    """Which coordinates a probe sees."""
    w, t = w.astype(np.float64), t.astype(np.float64)
    reach = threshold if probe == "absolute" else threshold * np.maximum(np.abs(w), np.abs(t))
    return np.abs(t - w) > reach


def permuted(w: np.ndarray, d: np.ndarray, grid: str, seed: int) -> np.ndarray:
    """Null (i): the deltas permuted over the coordinates, added and rounded to the grid."""
    shuffled = (
        np.random.default_rng(seed).permutation(d.reshape(-1).astype(np.float64)).reshape(d.shape)
    )
    return rounded(w.astype(np.float64) + shuffled, grid)


def gaussian(w: np.ndarray, scale: float, grid: str, seed: int) -> np.ndarray:
    """Null (ii): Gaussian noise of a scale, added and rounded to the grid."""
    noise = np.random.default_rng(seed).standard_normal(w.shape)
    return rounded(w.astype(np.float64) + scale * noise, grid)
