"""The headers of a model on a hub alone, by ranges of its files: what `check` reads of a 70B."""

import os
from pathlib import Path, PurePosixPath

from opdviz.checkpoint.hub import (
    Place,
    answers,
    download,
    is_file,
    place_of,
    sizes_of,
    wanted,
)
from opdviz.errors import RequestError, one_line

LENGTH = 8  # bytes before a header of safetensors, which say how long it is
MOST_HEADER = 100_000_000
PARTIAL = 206  # an answer of HTTP


def headers_of(word: str, folder: Path) -> Path:
    """The headers of a model's safetensors alone, as files of the right size in a new folder that
    hold no data and take no room; with what explains them.

    Raises
        RequestError: as `fetched` does, or its weights are in a format whose headers cannot be read
            alone.
    """
    place = place_of(word)
    folder.mkdir(parents=True)
    with answers(word):
        sizes = sizes_of(place)
        names = wanted(place, sizes)
        for name in names:
            target = folder / PurePosixPath(name).name
            if name.endswith((".json", ".txt")):
                target.write_bytes(Path(download(place, name, place.revision)).read_bytes())
            elif name.endswith(".safetensors"):
                target.write_bytes(header_of(place, name))
                os.truncate(target, sizes[name])
            else:
                raise RequestError(
                    f"check({one_line(word)}): found {one_line(target.name)}; expected safetensors,"
                    " whose headers are read alone. `compare` downloads it."
                )
    return folder / PurePosixPath(place.inside).name if is_file(place.inside) else folder


def header_of(place: Place, name: str) -> bytes:
    """The header of a safetensors file, and the eight bytes before it."""
    length = int.from_bytes(bytes_of(place, name, 0, LENGTH), "little")
    if length > MOST_HEADER:
        raise RequestError(
            f"check({one_line(place.word)}): found a header of {length:,} bytes in"
            f" {one_line(name, limit=80)}; expected at most {MOST_HEADER:,}."
        )
    return length.to_bytes(LENGTH, "little") + bytes_of(place, name, LENGTH, LENGTH + length)


def bytes_of(place: Place, name: str, first: int, last: int) -> bytes:
    """Some bytes of a file on the hub, and no others."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    address = hf_hub_url(place.repository, name, revision=place.revision)
    asked_for = {"Range": f"bytes={first}-{last - 1}"}
    with get_session().stream(
        "GET", address, headers=build_hf_headers() | asked_for, follow_redirects=True
    ) as response:
        hf_raise_for_status(response)
        if response.status_code != PARTIAL:
            raise RequestError(
                f"check({one_line(place.word)}): the server gives whole files alone; `compare`"
                " downloads them."
            )
        data = response.read()
    if len(data) != last - first:
        raise RequestError(
            f"check({one_line(place.word)}): found {len(data):,} bytes of"
            f" {one_line(name, limit=80)}; expected {last - first:,}. Try again."
        )
    return data
