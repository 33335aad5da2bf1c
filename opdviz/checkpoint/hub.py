"""Models on a hub, as `hf://org/name[@revision][/folder]`: with `hub_headers` the only border to
huggingface_hub, whose cache, token, mirrors and offline mode are used as its environment sets them.

Only a word with that scheme leads here, and only `fetched`, `missing_of`, `expanded` and
`hub_headers` ask a server; `kept` looks at what lies in the cache.
"""

import fnmatch
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from opdviz.checkpoint import beside
from opdviz.checkpoint.folder import choice
from opdviz.checkpoint.readers import ENDINGS
from opdviz.errors import RequestError, one_line

SCHEME = "hf://"
NAME = re.compile(r"hf://[\w.-]+(/[\w.-]+){1,2}(@[\w.%/-]+)?(/[\w.-]+)*")
WILD = re.compile(r"[*?\[]")
# Beside the weights: what names heads, ties and tokens.
BESIDE = ("config.json", "adapter_config.json", "tokenizer.json", "vocab.txt")
PATIENCE = 10  # seconds
TOO_MANY = 429  # an answer of HTTP
NUMBERS = re.compile(r"([0-9]+)")
Tell = Callable[[int, int], None]  # bytes done, of so many


def is_hub(word: str | os.PathLike) -> bool:
    """Whether a word names a model on a hub; a path never does, however it is mistyped."""
    return str(word).startswith(SCHEME)


def is_name(word: str) -> bool:
    """Whether a word has the form of a model's name on a hub, told without the hub's library.

    >>> is_name("hf://lab/opd@step_20/actor"), is_name("hf:///etc/passwd"), is_name("lab/opd")
    (True, False, False)
    """
    return NAME.fullmatch(word) is not None


@dataclass(frozen=True, slots=True)
class Place:
    """A model on a hub: its repository, a revision of it, and a folder or file inside."""

    word: str
    repository: str
    revision: str | None
    inside: str

    @property
    def label(self) -> str:
        """A short name, which tells revisions and folders apart."""
        name = self.repository.rpartition("/")[2]
        revision = f"@{self.revision}" if self.revision else ""
        return f"{name}{revision}{f'/{self.inside}' if self.inside else ''}"


def place_of(word: str) -> Place:
    """What a word names.

    Raises
        RequestError: it is no such name, or that of no model.
    """
    from huggingface_hub.errors import HfUriError
    from huggingface_hub.utils import parse_hf_uri

    try:
        uri = parse_hf_uri(word)
    except HfUriError as error:
        raise RequestError(
            f"open({one_line(word)}): found {one_line(error.msg, limit=200).rstrip('.')}; expected"
            " hf://org/name, or hf://org/name@revision/folder."
        ) from None
    pieces = PurePosixPath(uri.path_in_repo).parts + PurePosixPath(uri.revision or "").parts
    if uri.type != "model" or ".." in pieces or "\0" in word:
        kind = "a path out of it" if uri.type == "model" else f"a {uri.type}"
        raise RequestError(
            f"open({one_line(word)}): found {kind}; expected a model, as hf://org/name."
        )
    return Place(word, uri.id, uri.revision, uri.path_in_repo.strip("/"))


def expanded(word: str) -> list[str]:
    """The words that one with wildcards stands for, in the order of their numbers: folders of a
    repository, or its branches and tags; a word without any stands for itself.

    Raises
        RequestError: nothing fits, or the server does not answer.
    """
    if not WILD.search(word):
        return [word]
    place = place_of(word)
    with answers(word):
        if place.revision and WILD.search(place.revision):
            names = fnmatch.filter(revisions_of(place), place.revision)
            folder = f"/{place.inside}" if place.inside else ""
            words = [f"{SCHEME}{place.repository}@{name}{folder}" for name in names]
        else:
            revision = f"@{place.revision}" if place.revision else ""
            folders = folders_like(place, place.inside)
            words = [f"{SCHEME}{place.repository}{revision}/{folder}" for folder in folders]
    if not words:
        raise RequestError(
            f"open({one_line(word)}): found nothing that fits; expected folders, branches or tags."
        )
    return sorted(words, key=by_numbers)


def by_numbers(word: str) -> list:
    """A key that orders step_9 before step_10.

    >>> sorted(["step_10", "step_9"], key=by_numbers)
    ['step_9', 'step_10']
    """
    return [int(piece) if piece.isdigit() else piece for piece in NUMBERS.split(word)]


def revisions_of(place: Place) -> list[str]:
    """The branches and tags of a repository."""
    refs = api().list_repo_refs(place.repository)
    return [ref.name for ref in (*refs.branches, *refs.tags)]


def folders_like(place: Place, pattern: str) -> list[str]:
    """The folders of a repository that a pattern fits, piece by piece."""
    above = [""]
    for piece in PurePosixPath(pattern).parts:
        if not WILD.search(piece):
            above = [f"{folder}/{piece}".strip("/") for folder in above]
            continue
        above = [
            one.path
            for folder in above
            for one in listing(place, folder)
            if is_folder(one) and fnmatch.fnmatchcase(PurePosixPath(one.path).name, piece)
        ]
    return above


def fetched(word: str, tell: Tell = lambda done, total: None) -> Path:
    """The weights that a word names and what explains them, brought into the hub's own cache as far
    as they are not there; where they lie.

    Raises
        RequestError: no such model, revision or folder; no access; no network.
    """
    from huggingface_hub import constants

    place = place_of(word)
    if constants.HF_HUB_OFFLINE:
        return kept(word)
    with answers(word):
        sizes = sizes_of(place)
        names = wanted(place, sizes)
        total, done, revision = sum(sizes[name] for name in names), 0, place.revision
        for name in names:
            local = download(place, name, revision, lambda n, before=done: tell(before + n, total))
            revision = commit_of(local)  # a branch that moves meanwhile is none of ours
            done += sizes[name]
            tell(done, total)
    return kept(word)


def missing_of(word: str) -> int:
    """How many bytes of what would be read of a model are not on this machine yet.

    Raises
        RequestError: as `fetched` does.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    place = place_of(word)
    if constants.HF_HUB_OFFLINE:
        kept(word)
        return 0
    with answers(word):
        sizes = sizes_of(place)
        names = wanted(place, sizes)

    def here(name: str) -> bool:
        local = try_to_load_from_cache(place.repository, name, revision=place.revision)
        return isinstance(local, str)

    return sum(sizes[name] for name in names if not here(name))


def sizes_of(place: Place) -> dict[str, int]:
    """The files beside each other in the folder of a place, by path, with their sizes."""
    # It answers at once where listing tries again and again.
    api().repo_info(place.repository, revision=place.revision, timeout=PATIENCE)
    folder = str(PurePosixPath(place.inside).parent) if is_file(place.inside) else place.inside
    return {
        one.path: one.size
        for one in listing(place, "" if folder == "." else folder)
        if not is_folder(one)
    }


def is_file(inside: str) -> bool:
    """Whether a place in a repository is a weight file."""
    return inside.endswith(ENDINGS)


def wanted(place: Place, sizes: Mapping[str, int]) -> list[str]:
    """Of the files of a folder the weights that would be read, and what explains them; small ones
    first.

    Raises
        RequestError: there are no weights, or a shard that the index names is not there.
    """
    by_name = {PurePosixPath(path).name: path for path in sizes}
    beside_them = [by_name[name] for name in BESIDE if name in by_name]
    if is_file(place.inside):
        if place.inside not in sizes:
            raise RequestError(f"open({one_line(place.word)}): found no such file in it.")
        return [*beside_them, place.inside]
    weights = choice(list(by_name), place.word)
    if weights.index is None:
        return [*beside_them, *(by_name[name] for name in weights.files)]
    index = download(place, by_name[weights.index], place.revision)
    shards = beside.named_shards(index)
    for shard in shards:
        if shard not in by_name:
            raise RequestError(
                f"open({one_line(place.word)}): shard {one_line(shard, limit=80)} is missing there."
            )
    return [*beside_them, by_name[weights.index], *(by_name[shard] for shard in shards)]


def kept(word: str) -> Path:
    """Where a model lies in the hub's cache on this machine; nobody is asked.

    Raises
        RequestError: it does not.
    """
    from huggingface_hub import constants

    place = place_of(word)
    repository = Path(constants.HF_HUB_CACHE) / f"models--{place.repository.replace('/', '--')}"
    revision = place.revision or constants.DEFAULT_REVISION
    reference = repository / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    local = repository / "snapshots" / commit / place.inside
    if not local.exists():
        raise RequestError(
            f"open({one_line(word)}): found nothing of it in the hub's cache on this machine;"
            " `opdviz compare` downloads it, where there is a network."
        )
    return local


def listing(place: Place, folder: str) -> list:
    """What lies directly in a folder of a repository."""
    return list(api().list_repo_tree(place.repository, folder or None, revision=place.revision))


def is_folder(entry: object) -> bool:
    """Whether an entry of a listing is a folder."""
    from huggingface_hub.hf_api import RepoFolder

    return isinstance(entry, RepoFolder)


def download(
    place: Place, name: str, revision: str | None, tell: Callable[[int], None] = lambda n: None
) -> Path:
    """One file of a repository, in the cache; `tell` hears how many bytes of it came."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import tqdm

    class Told(tqdm):
        """A bar that is not shown."""

        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options | {"disable": True})
            self.came = options.get("initial", 0)

        def update(self, n: float | None = 1) -> None:
            self.came += n or 0
            tell(int(self.came))

    return Path(hf_hub_download(place.repository, name, revision=revision, tqdm_class=Told))


def commit_of(local: Path) -> str:
    """The commit of a file in the cache, which lies in a folder of that name."""
    parts = local.parts
    return parts[parts.index("snapshots") + 1]


def api():
    """The hub, as the environment sets it."""
    from huggingface_hub import HfApi

    return HfApi()


@contextmanager
def answers(word: str) -> Iterator[None]:
    """Turn what a hub answers in place of a model into one line.

    Raises
        RequestError: it did.
    """
    from huggingface_hub import errors
    from huggingface_hub.utils import logging as of_library

    # Which of httpx's two names it is depends on the version of the hub's library.
    http_error = errors.HfHubHTTPError.__bases__[0]
    of_library.set_verbosity(logging.CRITICAL)  # it says what it tries again
    try:
        yield
    except (http_error, OSError) as error:
        raise RequestError(f"open({one_line(word)}): {reason(error)}") from None


def reason(error: BaseException) -> str:
    """What a hub's answer means, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return reason(error.__cause__)  # the download failed, and nothing was in the cache
    if isinstance(error, errors.GatedRepoError):
        return "found a gated model; ask for access on its page, then set HF_TOKEN."
    if isinstance(error, errors.RevisionNotFoundError):
        return "found no such revision; expected a branch, a tag or a commit of that model."
    if isinstance(error, errors.RepositoryNotFoundError):
        return "found no such model, or none that is open to everybody; set HF_TOKEN for others."
    if isinstance(error, errors.EntryNotFoundError):
        return "found no such folder or file in it."
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "found HF_HUB_OFFLINE set; take it off to ask the hub."
    response = getattr(error, "response", None)
    if response is not None and response.status_code == TOO_MANY:
        return "found the hub's limit of requests reached; wait, or set HF_TOKEN."
    if response is not None:
        return f"the hub answered {response.status_code}; try again."
    return f"the hub did not answer ({type(error).__name__}); is there a network? Try again."
