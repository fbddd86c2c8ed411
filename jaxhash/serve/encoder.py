"""The hash function of the index that is served: loaded in the background, one input at a time."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from jaxtyping import Shaped
from numpy import ndarray

from jaxhash.retrieval.index import Index
from jaxhash.serve.errors import RequestError
from jaxhash.utils.errors import UserError

#: Seconds that a request waits for the hash function, and is told to wait if that was too short.
WAIT_SECONDS, RETRY_SECONDS = 60.0, 5


class EncoderService:
    """Loads the hash function of an index, and computes codes by it in a thread of its own.

    It is loaded again if another one takes its place in the folder.

    Args:
        index: the index.
    """

    def __init__(self, index: Index):
        self._thread = ThreadPoolExecutor(1, "encoder")
        self._digest, self._loaded = index.digest, self._thread.submit(_load, index)

    @property
    def is_ready(self) -> bool:
        """Whether the hash function is loaded."""
        return self._loaded.done() and self._loaded.exception() is None

    async def hasher(self, index: Index) -> Any:
        """Returns the hash function; waits for it.

        Args:
            index: the index as it is now.

        Raises:
            RequestError: 503 if it cannot be loaded, or takes longer than `WAIT_SECONDS`.
        """
        if index.digest != self._digest:
            self._digest, self._loaded = index.digest, self._thread.submit(_load, index)
        return await _result(self._loaded)

    async def encode(self, hasher: Any, inputs: Shaped[ndarray, "1 ..."]) -> Shaped[ndarray, " b"]:
        """Returns the packed code of one input.

        Raises:
            RequestError: 400 if the input has no code, as it is not finite.
        """
        try:
            codes = await asyncio.wrap_future(self._thread.submit(hasher.encode, inputs))
        except UserError as error:
            raise RequestError(400, f"{error}") from error
        return codes[0]

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _load(index: Index) -> Any:
    hasher = index.hasher()
    hasher.encode(hasher.check_input)  # compiles it
    return hasher


async def _result(loaded: Future) -> Any:
    try:
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(loaded)), WAIT_SECONDS)
    except TimeoutError:
        raise RequestError(
            503,
            "the hash function is being loaded; ask again",
            {"Retry-After": str(RETRY_SECONDS)},
        ) from None
    except UserError as error:
        raise RequestError(503, f"the hash function cannot be loaded: {error}") from error
