"""Limits of the app and the service, and the refusal of a request that exceeds them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import InitVar, dataclass

from optisar_yolo.language import clean
from optisar_yolo.utils import check_options, option

MIB = 1024 * 1024
EXAMPLE = "say what to look for, such as 'the ship in the upper left'"


class Refusal(ValueError):
    """A request that is not served.

    Args:
        status: HTTP status: 4xx for a fault of the request, 503 for a service without capacity.
        error: What is wrong, in one sentence.
        hint: What to do about it.
        retry: Seconds after which the same request may succeed.
    """

    def __init__(self, status: int, error: str, hint: str, retry: float | None = None) -> None:
        super().__init__(f"{error}; {hint}")
        self.status, self.error, self.hint, self.retry = status, error, hint, retry


@dataclass(frozen=True)
class Limits:
    """Limits of a service or an app; the declarations are also the options of ``optisar serve`` and ``optisar app``.

    ``max_sentences`` is the former name of ``max_expressions``.

    Raises:
        SettingError: A value that is not accepted.
    """

    max_mib: float = option(32, "float", "largest upload, MiB", low=0.001)
    max_pixels: int = option(25_000_000, "int", "largest image, pixels; read from its header before decoding", low=1)
    max_expressions: int = option(64, "int", "most expressions in a request", low=1, old=("max_sentences",))
    max_words: int = option(100, "int", "most words of an expression", low=1)
    max_characters: int = option(1000, "int", "most characters of an expression", low=1)
    rate: str = option("300/minute", "name", "requests per client address and time; none: no limit")
    queue: int = option(64, "int", "requests in the service at once, including those that are still uploading", low=1)
    uploads: int | None = option(None, "int", "uploads of one client address at once; half of queue by default", low=1)
    upload_seconds: float | None = option(
        None, "float", "time limit of an upload; that of a request by default", low=0.001
    )
    max_header_kib: int = option(32, "int", "largest headers of a request, KiB", low=1)
    header_seconds: float = option(10, "float", "time limit of the headers of a request", low=0.001)
    connections: int = option(64, "int", "connections of one client address at once", low=1)
    max_connections: int = option(1000, "int", "connections at once; requests beyond them are refused", low=1)
    batch: int = option(8, "int", "most requests in a batch", low=1)
    window: float = option(2, "float", "milliseconds that the first request of a batch waits for others", low=0)
    seconds: float = option(30, "float", "time limit of a request", low=0.001)
    remembered: int = option(32, "int", "encoded images in the cache", low=1)
    decoders: int = option(2, "int", "threads that decode images", low=1)
    max_sentences: InitVar[int | None] = None

    def __post_init__(self, max_sentences: int | None) -> None:
        if max_sentences is not None:
            warnings.warn("Limits(max_sentences=…) is now Limits(max_expressions=…)", FutureWarning, stacklevel=3)
            object.__setattr__(self, "max_expressions", max_sentences)
        check_options(self)

    @property
    def max_bytes(self) -> int:
        """Largest upload, bytes."""
        return int(self.max_mib * MIB)

    @property
    def max_header_bytes(self) -> int:
        """Largest headers, bytes."""
        return self.max_header_kib * 1024

    @property
    def uploads_per_address(self) -> int:
        """Uploads of one client address at once."""
        return self.uploads or max(self.queue // 2, 1)

    @property
    def upload_time(self) -> float:
        """Time limit of an upload, seconds."""
        return self.upload_seconds or self.seconds


def check_expressions(texts: Sequence[str], limits: Limits) -> list[str]:
    """Check the number and length of expressions, and clean them.

    Args:
        texts: The expressions as they were sent.
        limits: Limits of their number and length.

    Returns:
        The expressions without control characters and surplus white space.

    Raises:
        Refusal: No expression, too many, or one that is blank or too long.
    """
    if not texts:
        raise Refusal(422, "no expression", EXAMPLE)
    if len(texts) > limits.max_expressions:
        error = f"{len(texts)} expressions; at most {limits.max_expressions} are accepted in a request"
        raise Refusal(422, error, "send the rest in another request")
    cleaned = []
    for number, text in enumerate(texts, 1):
        _check_length(number, len(text), limits.max_characters, "characters")  # before `clean` reads all of it
        try:
            cleaned.append(clean(text))
        except ValueError as error:
            raise Refusal(400, f"expression {number} is blank", EXAMPLE) from error
        _check_length(number, len(cleaned[-1].split()), limits.max_words, "words")
    return cleaned


def _check_length(number: int, count: int, most: int, unit: str) -> None:
    if count > most:
        error = f"expression {number} has {count} {unit}; at most {most} are accepted"
        raise Refusal(422, error, "describe one object, in a few words")
