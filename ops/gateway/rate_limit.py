"""`gateway_key_rate` in haproxy.cfg: the leaky bucket as a meter (GCRA), a bucket a key.

The table has when a key's bucket will have run empty, so each answer can say what is left, and a 429 exactly how long
it is until the next request passes. HAProxy's own rate of a window tells neither.
"""

from ops.gateway.replies import error
from ops.settings import Settings

SAVED_S = 10  # a key that was idle may send so many seconds' worth at once
# µs of a clock of 32 bits, as the table has room for no more. It comes round after 71 minutes; an idle key is forgotten
# long before.
_CLOCK = (1 << 32) - 1
_IDLE = "1m"


def most(settings: Settings) -> int:
    """The requests that a key may send at once."""
    return settings.gateway_key_rate * SAVED_S


def rate_limit(settings: Settings) -> list[str]:
    """The rules of the frontend that follow `txn.key`; none where there is no limit."""
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
        "remaining": f"%[int({full_us}),sub(txn.used_us),div({cost_us})]",
        "reset": "%[var(txn.used_us),add(999999),div(1000000)]s",
    }
    return [
        "http-request track-sc1 var(txn.key) table rate_limit unless health",
        "http-request set-var(txn.now_us) date(0,us)",
        f"http-request set-var(txn.used_us) sc1_get_gpt0,sub(txn.now_us),and({_CLOCK}) unless health",
        # empty since some time, never used, or a clock that was set back
        f"http-request set-var(txn.used_us) int(0) if {{ var(txn.used_us) -m int gt {full_us} }}",
        f"http-request set-var(txn.wait_us) var(txn.used_us),sub({full_us - cost_us}) unless health",
        *(
            f"http-after-response set-header x-ratelimit-{name}-requests {value} if {{ var(txn.used_us) -m found }}"
            for name, value in told.items()
        ),
        f"http-request deny {often} if {{ var(txn.wait_us) -m int gt 0 }}",
        f"http-request set-var(txn.used_us) var(txn.used_us),add({cost_us}) unless health",
        "http-request sc-set-gpt0(1) var(txn.now_us),add(txn.used_us) unless health",
    ]


def rate_table(settings: Settings) -> str:
    """The backend that holds the table; empty where there is no limit."""
    if not settings.gateway_key_rate:
        return ""
    return f"""
backend rate_limit
    stick-table type string len 64 size 10k expire {_IDLE} store gpt0
"""
