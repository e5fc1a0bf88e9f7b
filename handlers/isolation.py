"""The requests of a batch are worked on together, and none pays for another: not for its error, nor for its length."""

import logging
from collections.abc import Callable, Iterator, Sequence

from .deadline import Deadline, TimeUpError
from .errors import OverloadedError, RequestError
from .failures import as_request_error, free_cached_memory, is_out_of_memory, leave_worker_on_cuda_error
from .items import Item

log = logging.getLogger("embedkit")


def grouped(items: Sequence[Item], cost: Callable[[Item], float], most: float) -> Iterator[list[Item]]:
    """The items in groups that cost no more than `most`, or are a single item; mostly one group, in the items' order.
    Where there are several, the cheap ones come first, so that they never wait for the dear ones.
    """
    costs = [cost(item) for item in items]
    order: Sequence[int] = range(len(items))
    if sum(costs) > most:
        order = sorted(order, key=costs.__getitem__)
    group: list[Item] = []
    total = 0.0
    for index in order:
        if group and total + costs[index] > most:
            yield group
            group, total = [], 0.0
        group.append(items[index])
        total += costs[index]
    if group:
        yield group


def contained(item: Item, step: Callable[[Item], None], *, traceback: bool = True) -> None:
    """Runs one item's step; whatever happens in it becomes this item's error."""
    try:
        step(item)
    except RequestError as error:
        item.error = error
    except TimeUpError:
        item.error = OverloadedError()
    except Exception as error:
        leave_worker_on_cuda_error(error)
        log.exception("embedkit: a request failed", exc_info=traceback)
        item.error = as_request_error(error)


def together_or_apart(
    items: Sequence[Item], compute: Callable[[Sequence[Item], Deadline], None], deadline: Deadline
) -> None:
    """Computes all at once; where that fails, one by one, so that only the guilty request gets an error. Those that are
    not begun before the deadline, or not done by then, get a 503.
    """
    out_of_memory = False
    try:
        if not deadline.passed:
            compute(items, deadline)
            return
    except TimeUpError:
        pass
    except Exception as error:
        leave_worker_on_cuda_error(error)
        log.error("embedkit: a batch of %d failed; its requests are tried one by one", len(items), exc_info=True)
        out_of_memory = is_out_of_memory(error)
    for item in items:
        if deadline.passed:
            item.error = OverloadedError()
            continue
        if out_of_memory:
            free_cached_memory()
        contained(item, lambda alone: compute([alone], deadline), traceback=False)
