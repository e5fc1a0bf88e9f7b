"""One look after the other: see, decide, act, tell."""

import contextlib
import logging
import random
import time

import psutil

from ops.errors import OpsError
from ops.exclusive import at_once, holder, lock_file
from ops.pause import paused
from ops.settings import Settings
from ops.supervisor.watchdog.clock import LookingTime
from ops.supervisor.watchdog.eyes import Eyes
from ops.supervisor.watchdog.hands import Hands, OutdatedError
from ops.supervisor.watchdog.ledger import Ledger, ledger_file, read_ledger
from ops.supervisor.watchdog.look import Action
from ops.supervisor.watchdog.policy import Policy
from ops.torchserve.management import ManagementError

log = logging.getLogger("embedkit.watchdog")


class Watch:
    """The watchdog of one deployment."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._eyes, self._policy, self._time = Eyes(settings), Policy(random.random), LookingTime()
        self._ledger = _kept(settings)
        self._hands = Hands(settings, self._ledger, self._save)
        self._said: dict[str, object] = {}
        self._alone_at = 0.0

    def tick(self) -> None:
        """A tick of supervisord's. Whatever goes wrong with one look is said, and the next one follows."""
        if not self._time.tick():
            return
        try:
            self._look()
        except OpsError as error:
            self._say("look", str(error), str(error))
        except Exception:
            log.exception("looking")

    def _look(self) -> None:
        look = self._eyes.look()
        pause = paused(self._settings, time.time())
        self._say("look", pause, pause.said(time.time()) if pause else "watches")
        self._ledger.expect({model.model for model in look.models}, look.programs)
        # `embedkit up` and `down` change what runs: the two never act at once
        with at_once(lock_file(self._settings)) as alone:
            actions = self._policy.step(self._time.now, look, may_act=alone and pause is None)
            for action in actions:
                self._act(action)
            if alone and look.answers:
                with contextlib.suppress(ManagementError):  # then with the next look
                    self._hands.finish_reviving()
        self._see_lock(alone=alone)
        self._tell(paused=pause is not None)

    def _see_lock(self, *, alone: bool) -> None:
        """Note since when another has the lock; who stands still with it may keep it for ever."""
        other = None if alone else holder(lock_file(self._settings))
        if other is None:
            self._alone_at = self._time.now
        self._ledger.locked_out_s = self._time.now - self._alone_at
        self._ledger.holder_stopped = other is not None and other.stopped
        stopped = other if self._ledger.holder_stopped else None
        self._say("lock", stopped and stopped.pid, f"does not act: {stopped}: {stopped.way_out}" if stopped else "")

    def _act(self, action: Action) -> None:
        left = self._policy.budgets(self._time.now)[action.kind, action.target]
        what = f"{action.kind} {action.target}" + (f" pid {action.process.pid}" if action.process else "")
        try:
            self._hands.act(action)
        except OutdatedError:
            log.warning("%s: not needed any more (%s)", what, action.reason)
            return
        except (OpsError, psutil.Error) as error:
            log.error("%s failed: %s (%s)", what, error, action.reason)  # noqa: TRY400 - a sentence, not a traceback
            return
        self._ledger.actions[action.kind, action.target] += 1
        log.warning("%s%s: %s", what, " by SIGKILL" if action.force else "", action.reason)
        if left == 0:
            log.error("%s: the hour's budget is used up; it goes on at the slowest pace: look into it", what)

    def _say(self, about: str, what: object, text: str) -> None:
        """Once, until what is to be said about it changes; the text may tell the time that is left."""
        if what != self._said.get(about):
            self._said[about] = what
            if text:
                log.warning("%s", text)

    def _tell(self, *, paused: bool) -> None:
        self._ledger.at, self._ledger.paused = time.time(), paused
        self._ledger.budgets = self._policy.budgets(self._time.now)
        self._save()

    def _save(self) -> None:
        problem = None
        try:
            self._ledger.write(ledger_file(self._settings))
        except OSError as error:  # a full disk: it goes on watching
            problem = f"{ledger_file(self._settings)}: {error.strerror}"
        self._say("ledger", problem, problem or "")


def _kept(settings: Settings) -> Ledger:
    try:
        return read_ledger(ledger_file(settings))
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s is damaged (%s): counting anew", ledger_file(settings), error)
        return Ledger()
