"""When requests are due in an open loop: a seeded Poisson process, as independent users make one."""

import random


def poisson_arrivals(rate: float, seconds: float, seed: str) -> list[float]:
    """Rising times in [0, `seconds`), `rate` a second on average; the same seed gives the same times.

    Raises:
        ValueError: the rate is not positive.
    """
    if rate <= 0:
        raise ValueError(f"rate = {rate}: a positive number of requests a second is needed")
    rng = random.Random(seed)  # noqa: S311 - no secret
    times = []
    now = rng.expovariate(rate)
    while now < seconds:
        times.append(now)
        now += rng.expovariate(rate)
    return times
