"""Take from the JVM and its workers the right to make symbolic links.

TorchServe's management API registers any folder of the machine that it can read, whatever `allowed_urls` says, by
linking its files into TEMP; its workers then run the Python in it. So whoever reaches the management port, each local
user for one, runs code as the service's user. The kit needs none of that: its archives are files, which are unpacked.
Without links such a registration fails. Landlock takes the right away from a process and all that it starts, and needs
no privileges for it.
"""

import ctypes
import os
import sys

from ops.torchserve.scheduling import as_a_batch

# linux/landlock.h
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_MAKE_SYM, _REFER = 1 << 12, 1 << 13
# linux/prctl.h
_SET_NO_NEW_PRIVS = 38


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def _call(*arguments: object) -> int:
    done: int = ctypes.CDLL(None, use_errno=True).syscall(*arguments)
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return done


def version() -> int:
    """Landlock's version on this kernel; 0 where there is none (Linux before 5.13, or switched off)."""
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    except OSError:
        return 0


def forbid_links() -> None:
    """From now on neither this process nor what it starts makes symbolic links; sudo and the like give it no rights.

    Raises OSError where the kernel has no Landlock.
    """
    # Moving files between folders is forbidden unless it is allowed, which version 1 cannot: a move is a copy there.
    moves = _REFER if version() > 1 else 0
    handled = ctypes.c_uint64(_MAKE_SYM | moves)
    ruleset = _call(_CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(ctypes.sizeof(handled)), 0)
    try:
        if moves:
            root = os.open("/", os.O_PATH | os.O_CLOEXEC)
            try:
                rule = _PathBeneath(moves, root)
                _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
            finally:
                os.close(root)
        if ctypes.CDLL(None, use_errno=True).prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def main() -> None:
    """`python -m ops.torchserve.confine COMMAND…`: become the command as the launcher does."""
    if version():
        forbid_links()
    as_a_batch()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
