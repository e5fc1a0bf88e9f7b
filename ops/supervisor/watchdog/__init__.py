"""The watchdog: brings back what hangs and what supervisord has given up (docs/watchdog.md).

Eyes look, the policy decides, hands act, the ledger tells.
"""
