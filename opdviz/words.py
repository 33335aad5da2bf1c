"""Numbers and names as people read them."""

import math
import re

from opdviz.errors import one_line

MARKUP = re.compile(r"([\\`!\[\]<>$:&|~])")
QUOTE = re.compile(r"^(\s*)\\>", re.MULTILINE)
SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:@&])")


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: three digits, no needless zeros.

    >>> number(0.010073), number(54.88), number(22713216)
    ('0.0101', '54.9', '22,713,216')
    """
    if value is None or math.isnan(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"


def percent(value: float | None, digits: int = 3) -> str:
    """A share as percent, never rounded to 0 or 100.

    >>> percent(0.010073), percent(0.999996), percent(1.0), percent(3e-7)
    ('1.01 %', 'over 99.99 %', '100 %', '3e-05 %')
    """
    if value is None or math.isnan(value):
        return "–"
    if 0.9999 < value < 1:
        return "over 99.99 %"
    text = number(100 * value, digits)
    return f"{number(100 * value, 4)} %" if text == "100" and value < 1 else f"{text} %"


def size(count_of_bytes: float) -> str:
    """Bytes in words, in powers of a thousand.

    >>> size(512), size(4_739_328), size(2.5e12)
    ('512 bytes', '4.74 MB', '2,500 GB')
    """
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count_of_bytes >= length:
            return f"{number(count_of_bytes / length)} {unit}"
    return f"{int(count_of_bytes):,} bytes"


def listing(words: list[str], most: int = 3) -> str:
    """Some words as a list; beyond `most` how many more there are.

    >>> listing(["0"]), listing(["0", "39"]), listing(list("abcde"))
    ('0', '0 and 39', 'a, b, c and 2 more')
    """
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def format_name(dtype: str) -> str:
    """A storage format as people call it.

    >>> format_name("bfloat16"), format_name("float8_e4m3")
    ('bf16', 'fp8 e4m3')
    """
    return {"bfloat16": "bf16", "float16": "fp16"}.get(
        dtype, dtype.replace("float", "fp").replace("_", " ")
    )


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(8.2), duration(150), duration(9000)
    ('8 s', '2 min 30 s', '2 h 30 min')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def count(total: int, thing: str, things: str = "") -> str:
    """A number of things.

    >>> count(1, "tensor"), count(1200, "tensor"), count(2, "matrix", "matrices")
    ('1 tensor', '1,200 tensors', '2 matrices')
    """
    return f"{total:,} {thing if total == 1 else things or thing + 's'}"


def how_many(some: int, every: int) -> str:
    """How many of so many, as a sentence says it.

    >>> how_many(0, 22), how_many(5, 22), how_many(22, 22)
    ('none of 22', '5 of 22', 'all 22')
    """
    return f"all {every:,}" if some == every else f"{some or 'none'} of {every:,}"


def plain(text: object, *, limit: int = 300) -> str:
    """Text from data as Markdown that shows it literally: no markup, no HTML, one line."""
    line = one_line("".join(c for c in str(text) if c.isprintable()), limit=limit)
    return SPECIAL.sub(r"\\\1", line)


def markdown(text: str) -> str:
    """What somebody wrote as Markdown, without what could fetch, run or pretend: emphasis, lists,
    headings and quotes stay.

    >>> markdown("**b** ![x](http://e.x/y.png) <img>")
    '**b** \\\\!\\\\[x\\\\](http\\\\://e.x/y.png) \\\\<img\\\\>'
    """
    printable = "".join(
        c for c in text.replace("\r", "").expandtabs(4) if c.isprintable() or c == "\n"
    )
    return QUOTE.sub(r"\1>", MARKUP.sub(r"\\\1", printable))
