"""A pair's decomposition on a GPU, through torch: the same steps, in float64 wherever the CPU has
it.

What is heavy runs on the device; what a step gives is numpy's again. A step that finds no room is
tried with smaller blocks; where that is not enough, or the device's solver does not converge, the
CPU does it, and `method` says so.
"""

import math
import os
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache, wraps

import numpy as np
import torch

from opdviz.checkpoint.formats import Promoted
from opdviz.errors import RequestError, one_line
from opdviz.linalg import Decomposition
from opdviz.linalg.gram import Products, Spectrum, falling, roots
from opdviz.linalg.reconstruction import Ties, cut_bits, split_at_the_cut
from opdviz.linalg.rounding import StoredUpdate
from opdviz.linalg.subspaces import WELL_SCALED, LongSide
from opdviz.order import LEADING_BITS, places_of

# Elements that are in float64 at a time, at first: half a gigabyte.
BLOCK = 1 << 26
# Blocks in float64 that a step has at once, and what comes between: of free memory one is a part.
ARRAYS = 16
# Below it a block is smaller than what the CPU takes at a time: no room for work of this kind.
LEAST_BLOCK = 1 << 20
SIXTEEN_BITS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Device:
    """A place where torch computes; `block` is how many elements it has room for at a time, as far
    as is known.
    """

    def __init__(self, name: str):
        self.torch, self.block = torch.device(name), BLOCK
        if self.torch.type == "cuda":
            # Ten significant bits instead of 24 are no speed worth having.
            torch.backends.cuda.matmul.allow_tf32 = False
            free, _ = torch.cuda.mem_get_info(self.torch)
            self.block = max(LEAST_BLOCK, min(BLOCK, free // (8 * ARRAYS)))

    def put(self, array: np.ndarray | Promoted) -> torch.Tensor:
        """A copy there, of 16-bit numbers as they are stored."""
        if isinstance(array, Promoted):
            bits = torch.tensor(array.raw.view(np.int16), device=self.torch)
            return bits.view(SIXTEEN_BITS[array.form])
        return torch.tensor(array, device=self.torch)

    def zeros(self, *shape: int) -> torch.Tensor:
        """Zeros in float64."""
        return torch.zeros(shape, dtype=torch.float64, device=self.torch)

    def takes_less(self) -> bool:
        """Whether less at a time, from here on, is worth a try."""
        if self.torch.type == "cuda":
            torch.cuda.empty_cache()
        before, self.block = self.block, max(LEAST_BLOCK, self.block // 4)
        return self.block < before


@lru_cache
def device(name: str) -> Device:
    """The device of a name, in this process; of several GPUs each process takes one.

    Raises
        RequestError: torch knows no such device, or this machine has none.
    """
    try:
        kind = torch.device(name)
    except RuntimeError:
        kind = None
    if kind is None or kind.type != "cuda":
        raise RequestError(
            f"--device: found {one_line(name, limit=20)!r}; expected cpu, cuda, cuda:0 or auto."
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise RequestError(
            f"--device {name}: torch {torch.__version__} finds no GPU here; install a build for it"
            " (https://pytorch.org), or leave --device out."
        )
    if kind.index is None:
        # Processes that start one after another have numbers in a row.
        return Device(f"cuda:{os.getpid() % count}")
    if kind.index >= count:
        raise RequestError(f"--device {name}: there are {count} GPUs, from cuda:0 on.")
    return Device(name)


def step(on_device: Callable) -> Callable:
    """A step of the decomposition there, `or_here` where it does not come to an end."""
    return or_here(on_device, getattr(Decomposition, on_device.__name__))


def or_here(on_device: Callable, on_cpu: Callable) -> Callable:
    """What is done on the device: with less at a time where there is no room, and where that does
    not help, or it does not converge, by the CPU, which is said.
    """
    name = on_device.__name__

    @wraps(on_device)
    def run(self: "Accelerated", *arguments):
        reason = "no room"
        try:
            while True:
                try:
                    return on_device(self, *arguments)
                except torch.OutOfMemoryError:
                    if not self.device.takes_less():
                        break
        except torch.linalg.LinAlgError:
            reason = "no convergence"
        self.done_by_cpu[name.replace("_", " ")] = reason
        return on_cpu(self, *arguments)

    return run


class Accelerated(Decomposition):
    """A decomposition whose heavy steps run on a device."""

    def __init__(self, *sides, device: Device, **how):
        super().__init__(*sides, **how)
        self.device = device
        self.done_by_cpu: dict[str, str] = {}

    @property
    def method(self) -> str:
        """Where it was computed, and what the CPU had to do instead, and why."""
        by_cpu = ", ".join(f"{name}: {reason}" for name, reason in self.done_by_cpu.items())
        return f"exact ({self.device.torch.type}{f'; on the CPU {by_cpu}' if by_cpu else ''})"

    @cached_property
    def stored_there(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Base and tuned on the device, as they are stored."""
        return self.device.put(self.base), self.device.put(self.tuned)

    @property
    def there(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, tall."""
        base, tuned = map(self.tall, self.stored_there)
        return base, tuned

    def tall(self, matrix: torch.Tensor) -> torch.Tensor:
        """A matrix of the pair's shape, turned so that its long side are rows."""
        return matrix if self.m >= self.n else matrix.T

    def rows_at_a_time(self) -> Iterator[slice]:
        """Rows of the tall orientation, as many as there is room for."""
        size = max(1, self.device.block // self.r)
        return (slice(first, first + size) for first in range(0, self.long, size))

    def blocks(self) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """(rows, base, delta) of the tall orientation in float64."""
        base, tuned = self.there
        for rows in self.rows_at_a_time():
            # Widened before subtracting, as on the CPU. Not in place: of float64 these are the
            # stored numbers themselves.
            a = base[rows].to(torch.float64)
            yield rows, a, tuned[rows].to(torch.float64) - a

    @step
    def summed_products(self) -> Products:
        """Step: the three products and the energy of D's long-side rows."""
        base_gram = self.of_base.known("aa")
        aa, ad, dd = (self.device.zeros(self.r, self.r) for _ in range(3))
        long_energy = self.device.zeros(self.long)
        for rows, a, d in self.blocks():
            if base_gram is None:
                aa.addmm_(a.T, a)
            ad.addmm_(a.T, d)
            dd.addmm_(d.T, d)
            long_energy[rows] = d.square().sum(dim=1)
        aa = self.of_base.once("aa", lambda: here(aa))
        return Products(aa, *map(here, (ad, dd, long_energy)))

    @step
    def spectrum_of(self, gram: np.ndarray, k: int) -> Spectrum:
        """Step: the spectrum of a tall matrix from its Gram matrix, with `k` leading vectors."""
        if k == 0:
            values = here(torch.linalg.eigvalsh(self.device.put(gram)))
            return Spectrum(roots(values), np.empty((len(gram), 0)))
        values, vectors = torch.linalg.eigh(self.device.put(gram))
        return falling(here(values), here(vectors[:, -k:]), k)

    @step
    def gram_along(self, v: np.ndarray, tuned: bool) -> np.ndarray:
        """Step: the Gram matrix of X v, X the base or the tuned."""
        along, gram = self.device.put(v), self.device.zeros(v.shape[1], v.shape[1])
        side = self.there[tuned]
        for rows in self.rows_at_a_time():
            rotated = side[rows].to(torch.float64) @ along
            gram.addmm_(rotated.T, rotated)
        return here(gram)

    @step
    def product(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Step: a product of two matrices of r rows or columns."""
        return here(self.device.put(x) @ self.device.put(y))

    @step
    def energy_inside(self, v: np.ndarray) -> tuple[np.ndarray, float]:
        """Step: what the span of the base's long side holds of the energy of D v, and of D's."""
        lower = torch.linalg.cholesky(self.device.put(self.products.aa))
        ad = self.device.put(self.products.ad)
        half = torch.linalg.solve_triangular(lower, ad, upper=False)
        columns = half @ self.device.put(v)
        return here(columns.square().sum(dim=0)), float(half.square().sum())

    @step
    def leading_long_side(self) -> LongSide:
        """Step: the leading long-side vectors of base and tuned, and what lies between them."""

        def of_base() -> tuple[np.ndarray, np.ndarray]:
            along = self.along(self.there[0], self.base_spectrum.v[:, : self.k])
            vectors, factor = orthonormal(along, self.base_spectrum.s)
            return here(vectors), factor

        vectors, factor = self.of_base.once("long side", of_base)
        along = self.along(self.there[1], self.tuned_spectrum.v)
        tuned, _ = orthonormal(along, self.tuned_spectrum.s)
        both = residual_gram(self.device.put(vectors), tuned)
        return LongSide(vectors, factor, *map(here, both))

    def along(self, side: torch.Tensor, v: np.ndarray) -> torch.Tensor:
        """X v of a side."""
        right, products = self.device.put(v), self.device.zeros(self.long, v.shape[1])
        for rows in self.rows_at_a_time():
            products[rows] = side[rows].to(torch.float64) @ right
        return products

    def sizes(self, rank: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """(rows, |U_k S_k V_k'| as float32) of the tall matrix."""
        # All directions give the matrix back, without their rounding.
        whole = rank == self.r
        right = None if whole else self.device.put(self.base_spectrum.v[:, :rank]).T
        for rows in self.rows_at_a_time():
            if whole:
                block = self.there[0][rows]
            else:
                block = self.device.put(self.long_side.products(rows)[:, :rank]) @ right
            yield rows, block.abs().to(torch.float32)

    @step
    def marked_base(self, ranks: dict[float, int]) -> tuple[np.ndarray, dict[float, Ties]]:
        """Step: where the base, rebuilt from its leading directions, is largest; in two passes, as
        `Reconstructions.mark_by_blocks`.
        """
        members = torch.zeros(self.base.shape, dtype=torch.uint8, device=self.device.torch)
        tall, flat = self.tall(members), members.reshape(-1)
        counts = {rank: self.counts_of_sizes(rank) for rank in set(ranks.values())}
        tied = {}
        for bit, (share, rank) in enumerate(ranks.items()):
            cut, places = cut_bits(counts[rank], places_of(share, self.base.size))
            coordinates, near = [], []
            for rows, sizes in self.sizes(rank):
                bits = leading_bits(sizes)
                tall[rows] |= (bits > cut).to(torch.uint8) << bit
                long, short = torch.nonzero(bits == cut, as_tuple=True)
                near.append(here(sizes[long, short]))
                long += rows.start
                coordinates.append(
                    here(long * self.r + short if self.m >= self.n else short * self.long + long)
                )
            at = np.concatenate(coordinates)
            above, tied[share] = split_at_the_cut(at, np.concatenate(near), places)
            flat[torch.tensor(above, device=self.device.torch)] |= 1 << bit
        return here(flat), tied

    def counts_of_sizes(self, rank: int) -> np.ndarray:
        """How many of the sizes have each of the leading bits."""
        total = torch.zeros(LEADING_BITS, dtype=torch.int64, device=self.device.torch)
        for _, sizes in self.sizes(rank):
            total += torch.bincount(leading_bits(sizes).reshape(-1), minlength=LEADING_BITS)
        return here(total)

    @step
    def gram_of_stored(self) -> np.ndarray | None:
        """Step: the Gram matrix of what storing leaves of the leading part of D, at the norm of
        D.
        """
        return StoredThere(self).gram_at_norm(math.sqrt(self.delta_energy))


class StoredThere(StoredUpdate):
    """`StoredHere` on a device: float32, and rounding to the format by torch's own conversion."""

    def __init__(self, work: Accelerated):
        self.work, self.scale = work, 1.0
        device, v = work.device, work.delta_spectrum.v
        right = device.put(v)
        along = device.zeros(work.long, v.shape[1])
        for rows, _, d in work.blocks():
            along[rows] = d @ right
        self.along, self.across = along.to(torch.float32), right.to(torch.float32)
        self.form = SIXTEEN_BITS[work.form]
        self.base = work.there[0]
        stored_as_base = work.origin is work.base
        self.origin = self.base if stored_as_base else work.tall(device.put(work.origin))

    def changes(self) -> Iterator[torch.Tensor]:
        """The change of the stored values at the scale, in blocks of rows of the tall matrix."""
        for rows in self.work.rows_at_a_time():
            part = (self.along[rows] * self.scale) @ self.across.T
            part += self.origin[rows].to(torch.float32)
            part = part.to(self.form).to(torch.float32)
            part -= self.base[rows].to(torch.float32)
            yield part

    def norm_at(self, scale: float) -> float:
        """The norm of the change at a scale, which is kept."""
        self.scale = scale
        return math.sqrt(sum(float(x.square().sum(dtype=torch.float64)) for x in self.changes()))

    def gram(self) -> np.ndarray:
        """The Gram matrix of the tall change, in float64."""
        total = self.work.device.zeros(self.work.r, self.work.r)
        for part in self.changes():
            wide = part.to(torch.float64)
            total.addmm_(wide.T, wide)
        return here(total)


def leading_bits(sizes: torch.Tensor) -> torch.Tensor:
    """As `order.leading_bits`."""
    return sizes.contiguous().view(torch.int32) >> 16


def here(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as numpy's."""
    return tensor.cpu().numpy()


def residual_gram(u: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `subspaces.residual_gram`."""
    cosines = u.T @ w
    residual = w - u @ cosines
    return residual.T @ residual, cosines


def orthonormal(x: torch.Tensor, s: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """A v scaled to unit columns, and the scales; by QR, and its R, where the values fall far: as
    `subspaces.orthonormal`.
    """
    k = x.shape[1]
    if s[k - 1] > WELL_SCALED * s[0]:
        x /= torch.tensor(s[:k], device=x.device)
        return x, s[:k]
    q, upper = torch.linalg.qr(x)
    signs = torch.where(torch.diagonal(upper) < 0, -1.0, 1.0).to(x.dtype)
    return q * signs, here(signs[:, None] * upper)
