"""Scores the images of a benchmark: on every device, with every process, from where it was left."""

import concurrent.futures
import contextlib
import itertools
import queue
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import tqdm

from uniovseg_jax.eval.image_log import ImageLog

# Images after which the running score is worked out anew, and as a share of those that it is of:
# it is worked out from all of them, which takes seconds where there are many classes.
_SHOW_EVERY, _SHOW_SHARE = 20, 0.1


@runtime_checkable
class ImageScorer(Protocol):
    """What is done with each image, and with all of them."""

    def on_device(self, device: Any) -> Any:
        """Returns the model on a device, for one thread at a time."""
        ...

    def score(self, model: Any, image_id: str) -> dict[str, Any]:
        """Returns what an image gave, as JSON.

        Raises:
          ValueError: If its files are damaged.
          OSError: If its files are missing.
        """
        ...

    def total(self, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Adds up images in their order."""
        ...

    def headline(self, results: Sequence[dict[str, Any]]) -> str:
        """Returns a few words that say how well it goes."""
        ...


def score_images(
    scorer: ImageScorer,
    image_ids: Sequence[str],
    log: ImageLog,
    threads_per_device: int = 2,
    progress: bool = True,
    title: str = "",
) -> None:
    """Scores the images of this process that the log does not have yet.

    Every device has several threads, so that reading and merging of one image goes on while the
    device works on another.

    Args:
      scorer: What is done with each.
      image_ids: Of all processes; each takes its share.
      log: Gets the results.
      threads_per_device: 1 or more.
      progress: Whether to show a bar with the running score.
      title: Of the bar.

    Raises:
      ValueError: If there is no thread, or files of an image are damaged; what was finished before
        stays in the log.
      OSError: If files of an image are missing.
    """
    if threads_per_device < 1:
        raise ValueError(f"threads_per_device is {threads_per_device}; expected 1 or more.")
    own = image_ids[jax.process_index() :: jax.process_count()]
    left = [image_id for image_id in own if image_id not in log.done]
    devices = jax.local_devices()
    models: queue.SimpleQueue[Any] = queue.SimpleQueue()
    count = min(len(devices) * threads_per_device, len(left))
    for device in itertools.islice(itertools.cycle(devices), count):
        models.put(scorer.on_device(device))

    def work(image_id: str) -> dict[str, Any]:
        model = models.get()
        try:
            return scorer.score(model, image_id)
        finally:
            models.put(model)

    with contextlib.ExitStack() as stack:
        if not left:
            return
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(count))
        # Whatever ends this loop, images that nobody has begun are not begun any more.
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        bar = stack.enter_context(
            tqdm.tqdm(
                desc=title or None,
                total=len(own),
                initial=len(own) - len(left),
                unit="image",
                disable=not progress,
                mininterval=1.0,
            )
        )
        futures = {pool.submit(work, image_id): image_id for image_id in left}
        shown = 0
        for number, future in enumerate(concurrent.futures.as_completed(futures), 1):
            log.add(futures[future], future.result())
            bar.update()
            enough = number - shown >= max(_SHOW_EVERY, _SHOW_SHARE * len(log.done))
            if progress and (enough or number == len(left)):
                shown = number
                bar.set_postfix_str(scorer.headline(list(log.done.values())))


def ordered(done: dict[str, dict[str, Any]], image_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the results of all images in the order of the benchmark.

    Raises:
      ValueError: If images are missing, since another process has not ended or was stopped.
    """
    missing = [image_id for image_id in image_ids if image_id not in done]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(image_ids)} images are not scored, such as {missing[0]!r}: "
            "run the same command again."
        )
    return [done[image_id] for image_id in image_ids]
