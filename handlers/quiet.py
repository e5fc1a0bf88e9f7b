"""Keeps TorchServe's worker from printing a line a batch.

A worker's stdout goes through the server, which matches a regular expression against each line and logs it.
"""

import logging


class _DropReceived(logging.Filter):
    """Drops "Backend received inference at: …"; TorchServe writes it through the root logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or record.module != "otf_message_handler"


_drop_received = _DropReceived()


def silence_server_lines() -> None:
    """From here on, the worker prints what the handler has to say and warnings. May be called again."""
    logging.getLogger().addFilter(_drop_received)
    # PredictionTime, a gauge that only ever holds the last batch; the stage histograms tell it better.
    logging.getLogger("ts.metrics.caching_metric").setLevel(logging.WARNING)
