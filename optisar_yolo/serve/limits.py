"""What the app and the service take, and how they say no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optisar_yolo.language import clean

MIB = 1024 * 1024


class Refusal(ValueError):
    """A request that is not served.

    Args:
        status: HTTP status that says so: 4xx where the request is at fault, 503 where the service has no room.
        error: What is wrong, in one expression.
        hint: What to do about it.
        retry: Seconds after which the same request may succeed.
    """

    def __init__(self, status: int, error: str, hint: str, retry: float | None = None) -> None:
        super().__init__(f"{error}; {hint}")
        self.status, self.error, self.hint, self.retry = status, error, hint, retry


@dataclass(frozen=True)
class Limits:
    """Limits of a service or an app.

    Attributes:
        max_mib: Largest upload, MiB.
        max_pixels: Most pixels of an image, read from its header before anything is decoded.
        max_sentences: Most expressions in a request.
        max_words: Most words of an expression.
        max_characters: Most characters of an expression.
        rate: Requests of one client in a time, such as ``"300/minute"``; ``"none"`` for any number.
        queue: Requests in the service at once, those whose images are still being sent included.
        batch: Most requests that are answered together.
        window: Milliseconds that the first request of a batch waits for others.
        seconds: Time limit of a request, and that of its upload.
        remembered: Encoded images that are kept for further expressions.
        decoders: Images that are decoded at once.
    """

    max_mib: float = 32
    max_pixels: int = 25_000_000
    max_expressions: int = 64
    max_words: int = 100
    max_characters: int = 1000
    rate: str = "300/minute"
    queue: int = 64
    batch: int = 8
    window: float = 2
    seconds: float = 30
    remembered: int = 32
    decoders: int = 2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not (value > 0 or name == "window" and value == 0):
                raise ValueError(f"{name}={value}: expected a number above 0")

    @property
    def max_bytes(self) -> int:
        """Largest upload, bytes."""
        return int(self.max_mib * MIB)


def within(texts: Sequence[str], limits: Limits) -> list[str]:
    """Return the expressions as the model reads them.

    Args:
        texts: As they were sent.
        limits: How many, how long.

    Returns:
        One per expression, without control characters and surplus white space.

    Raises:
        Refusal: None, too many, a blank or too long one.
    """
    if not texts:
        raise Refusal(422, "no expression", "say what to look for, such as 'the ship in the upper left'")
    if len(texts) > limits.max_expressions:
        raise Refusal(
            422,
            f"{len(texts)} expressions; at most {limits.max_expressions} are answered at once",
            "ask the rest later",
        )
    return [_one(text, i + 1, limits) for i, text in enumerate(texts)]


def _one(text: str, number: int, limits: Limits) -> str:
    """Check and clean one expression."""
    if len(text) > limits.max_characters:
        long = f"expression {number} has {len(text)} characters; at most {limits.max_characters} are read"
        raise Refusal(422, long, "describe one object, in a few words")
    try:
        shown = clean(text)
    except ValueError as error:
        hint = "say what to look for, such as 'the ship in the upper left'"
        raise Refusal(400, f"expression {number} is blank", hint) from error
    words = len(shown.split())
    if words > limits.max_words:
        long = f"expression {number} has {words} words; at most {limits.max_words} are read"
        raise Refusal(422, long, "describe one object, in a few words")
    return shown
