"""What any blind update could cover of a mask: the hull of all of them.

A blind update does not know which weight it meets: it is a mixture of sizes and signs. One (size,
sign) makes visible exactly the classes whose grid steps it crosses: N of them, I inside the mask.
So a blind update with as many visible coordinates as ours lies between the lower and the upper
convex hull of the points (N, I), with (0, 0) and (numel, mask).
"""

import numpy as np
import scipy
from jaxtyping import Float

from opdviz.measures.visibility import Ramps

SPREAD = 3.0  # standard errors added at each end
SLACK = 1e-12  # of a mask's count: nearer to a line than this is on it

Points = Float[np.ndarray, "masks points"]


def blind_range(
    edges: Ramps,
    whole: Float[np.ndarray, " groups"],
    inside: Float[np.ndarray, "masks groups"],
    visible: int,
    *,
    any_order: bool,
) -> tuple[Float[np.ndarray, " masks"], Float[np.ndarray, " masks"]]:
    """The least and the largest coverage of each mask by a blind update with `visible` coordinates.

    `edges` has a column a group, `whole` (groups) and `inside` (masks, groups) count their
    coordinates. With `any_order` a group is seen in any order inside itself: its members cross
    their steps one after the other.
    """
    count, covered = vertices(edges, whole, inside)
    if any_order:
        count, covered = within_groups(edges, whole, inside, count, covered)
    # The lower hull is the upper one of the points turned over.
    least = -hull_at(count, -covered, float(visible)) / visible
    largest = hull_at(count, covered, float(visible)) / visible
    return scattered(least, visible, -SPREAD), scattered(largest, visible, SPREAD)


def scattered(
    share: Float[np.ndarray, " masks"], count: int, errors: float
) -> Float[np.ndarray, " masks"]:
    """Where shares of `count` coordinates scatter to at some standard errors, up (above 0) or down.

    Of a few coordinates the binomial quantile reaches further than the error: of nine, one more is
    no finding.
    """
    share = np.clip(share, 0.0, 1.0)
    # Both, and the farther of the two: the normal error vanishes at 0 and 1, the quantile is coarse
    # for many coordinates.
    normal = share + errors * np.sqrt(share * (1 - share) / count)
    # The binomial quantile has no value at 0 and 1, where nothing scatters.
    quantile = scipy.special.bdtrik(scipy.special.ndtr(errors), count, share)
    quantile = np.where((share > 0) & (share < 1), quantile, count * share)
    whole, farther = (np.ceil, np.maximum) if errors > 0 else (np.floor, np.minimum)
    return np.clip(farther(normal, whole(quantile) / count), 0.0, 1.0) + 0.0  # no -0.0 in tables


def vertices(
    edges: Ramps, whole: Float[np.ndarray, " groups"], inside: Float[np.ndarray, "masks groups"]
) -> tuple[Points, Points]:
    """The points (N, I) at each size where something changes, of both signs; (masks, points)."""
    counts = np.vstack([whole, inside])
    # No update and an endless one are points of their own.
    points = [np.zeros((len(counts), 1)), counts.sum(axis=1, keepdims=True)]
    for start, end, tie in zip(edges.start, edges.end, edges.tie, strict=True):
        points += visible_counts(counts, start, end, tie)
    both = np.concatenate(points, axis=1)
    return np.broadcast_to(both[0], both[1:].shape), both[1:]


def visible_counts(
    counts: Float[np.ndarray, "rows groups"],
    start: Float[np.ndarray, " groups"],
    end: Float[np.ndarray, " groups"],
    tie: Float[np.ndarray, " groups"],
) -> tuple[Float[np.ndarray, "rows sizes"], Float[np.ndarray, "rows sizes"]]:
    """What of some counts is visible of one sign at each size where a group starts or ends to be
    seen, and just above it: a hull has its corners where one of these changes.
    """
    sizes = np.unique(np.concatenate([start, end]))
    jump = end <= start
    # Whoever is past its end is seen as a whole: running sums, as nearly every group is at nearly
    # every size; a share of each group at each size would be millions of zeros and ones.
    past = np.where(jump, start, end)
    order = np.argsort(past, kind="stable")
    running = np.concatenate([np.zeros((len(counts), 1)), counts[:, order].cumsum(axis=1)], axis=1)
    above = running[:, np.searchsorted(past[order], sizes, side="right")]
    rising = shares_on_ramps(sizes, start[~jump], end[~jump])
    above += (rising.T @ counts[:, ~jump].T).T
    # At the size itself a jump shows by its tie, just above it for certain.
    at = above.copy()
    places = np.searchsorted(sizes, start[jump])
    np.subtract.at(at, (slice(None), places), counts[:, jump] * (1 - tie[jump]))
    return at, above


def shares_on_ramps(
    sizes: Float[np.ndarray, " sizes"],
    start: Float[np.ndarray, " groups"],
    end: Float[np.ndarray, " groups"],
) -> "scipy.sparse.csr_array":
    """The visible share of each group (rows) at the sizes (columns) that lie on its ramp."""
    first = np.searchsorted(sizes, start, side="right")
    lengths = np.searchsorted(sizes, end, side="left") - first
    group = np.repeat(np.arange(start.size), lengths)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    size = first[group] + np.arange(group.size) - bounds[group]
    share = (sizes[size] - start[group]) / (end - start)[group]
    return scipy.sparse.csr_array((share, size, bounds), shape=(start.size, sizes.size))


def within_groups(
    edges: Ramps,
    whole: Float[np.ndarray, " groups"],
    inside: Float[np.ndarray, "masks groups"],
    count: Points,
    covered: Points,
) -> tuple[Float[np.ndarray, "masks more"], Float[np.ndarray, "masks more"]]:
    """The points with those added that lie between two of them where a group's inner or outer
    members come first.
    """
    more_count, more_covered = [count], [covered]
    for start in edges.start:
        # Inside a quarter octave the members' steps differ, and which of them come first nobody
        # counted: the extreme cases are those inside the mask first, and those outside of it first.
        order = np.argsort(start, kind="stable")
        inner = inside[:, order]
        outer = whole[order] - inner
        before, held = sums_before(whole[order]), sums_before(inner)
        more_count += [before + inner, before + outer]
        more_covered += [held + inner, held]
    return np.concatenate(more_count, axis=1), np.concatenate(more_covered, axis=1)


def sums_before(x: Float[np.ndarray, "*masks groups"]) -> Float[np.ndarray, "*masks groups"]:
    """What all groups before each one hold."""
    sums = np.zeros_like(x)
    np.cumsum(x[..., :-1], axis=-1, out=sums[..., 1:])
    return sums


def hull_at(x: Points, y: Points, at: float) -> Float[np.ndarray, " masks"]:
    """The upper convex hull of each row's points (x, y) at one abscissa, between their least and
    largest x.

    Two supports left and right of it; the point farthest above the line through them replaces the
    one on its side until there is none.

    >>> hull_at(np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 2.0, 2.0]]), 0.5).tolist()
    [1.0]
    """
    row = np.arange(len(x))
    left, right = np.argmin(x, axis=1), np.argmax(x, axis=1)
    # Rounding makes points of one line lie above each other in turn, and the search would not end.
    slack = SLACK * np.maximum(np.abs(y).max(axis=1), 1.0)
    # Every round takes a point of the hull as a support, of all masks at once; a whole hull of some
    # thousand points would be sorted for a single abscissa.
    for _ in range(x.shape[1]):
        width = x[row, right] - x[row, left]
        rise = y[row, right] - y[row, left]
        # Supports at one abscissa have no line through them; there it is level.
        slope = np.where(width > 0, rise / np.where(width > 0, width, 1.0), 0.0)
        above = y - y[row, left][:, None] - slope[:, None] * (x - x[row, left][:, None])
        farthest = np.argmax(above, axis=1)
        better = above[row, farthest] > slack
        if not better.any():
            break
        behind = x[row, farthest] <= at
        left = np.where(better & behind, farthest, left)
        right = np.where(better & ~behind, farthest, right)
    return y[row, left] + slope * (at - x[row, left])
