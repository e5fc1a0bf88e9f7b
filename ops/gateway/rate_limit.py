"""`gateway_key_rate` in haproxy.cfg: the leaky bucket as a meter (GCRA), a bucket a key.

The frontend's table has when a key's bucket will have run empty, so each answer can say what is left, and a 429 exactly
how long it is until the next request passes. HAProxy's own rate of a window tells neither.
"""

from ops.gateway.replies import error
from ops.settings import Settings

SAVED_S = 10  # a key that was idle may send so many seconds' worth at once
_WORD = 1 << 32  # the table's numbers have 32 bits: a time in µs takes two of them


def most(settings: Settings) -> int:
    """The requests that a key may send at once."""
    return settings.gateway_key_rate * SAVED_S


def rate_limit(settings: Settings) -> list[str]:
    """The rules behind `track-sc0`, in whose table they keep `gpt(2)`; none where there is no limit.

    What goes without a key is not tracked, and passes.
    """
    if not settings.gateway_key_rate:
        return []
    cost_us = 1_000_000 // settings.gateway_key_rate
    full_us = cost_us * most(settings)
    often = error(
        429,
        "rate_limit_exceeded",
        f"This key may send {settings.gateway_key_rate} requests a second, {most(settings)} at once: wait as long as "
        "Retry-After says.",
        headers={
            "Retry-After": "%[var(txn.wait_us),add(999999),div(1000000)]",
            "retry-after-ms": "%[var(txn.wait_us),add(999),div(1000)]",
        },
    )
    told = {
        "limit": f"{most(settings)}",
        "remaining": "%[var(txn.left)]",
        "reset": "%[var(txn.used_us),add(999999),div(1000000)]s",
    }
    return [
        "http-request set-var(txn.now_us) date(0,us)",
        "http-request set-var(txn.low_us) sc_get_gpt(0,0)",
        f"http-request set-var(txn.used_us) sc_get_gpt(1,0),mul({_WORD}),add(txn.low_us),sub(txn.now_us)",
        # Never used, empty since some time, or a clock that was set back. A little more than full is full: the threads'
        # clocks differ.
        "http-request set-var(txn.used_us) int(0) "
        f"if {{ var(txn.used_us) -m int lt 0 }} || {{ var(txn.used_us) -m int gt {2 * full_us} }}",
        f"http-request set-var(txn.wait_us) var(txn.used_us),sub({full_us - cost_us})",
        *(
            f"http-after-response set-header x-ratelimit-{name}-requests {value} if {{ var(txn.used_us) -m found }}"
            for name, value in told.items()
        ),
        "http-request set-var(txn.left) int(0)",
        f"http-request deny {often} if {{ var(txn.wait_us) -m int gt 0 }}",
        f"http-request set-var(txn.used_us) var(txn.used_us),add({cost_us})",
        f"http-request set-var(txn.left) int({full_us}),sub(txn.used_us),div({cost_us})",
        "http-request set-var(txn.empty_us) var(txn.now_us),add(txn.used_us)",
        f"http-request sc-set-gpt(0,0) var(txn.empty_us),and({_WORD - 1})",
        f"http-request sc-set-gpt(1,0) var(txn.empty_us),div({_WORD})",
    ]
