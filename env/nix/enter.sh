# shellcheck shell=bash
# Sourced by every shell and app of flake.nix: brings .venv of the checkout to its lock and enters it.

CHECKOUT=$PWD
while [ ! -e "$CHECKOUT/env/bootstrap.py" ] && [ -n "$CHECKOUT" ]; do
    CHECKOUT=${CHECKOUT%/*}
done
if [ -z "$CHECKOUT" ]; then
    echo "embedkit: $PWD is in no checkout of embedkit: the environment is made in one, so cd there first" >&2
    exit 1
fi

# nixpkgs' Python hooks set these for its own packages; .venv has its own.
unset PYTHONPATH PYTHONHOME SOURCE_DATE_EPOCH

# shellcheck source=driver.sh
. "${BASH_SOURCE[0]%/*}/driver.sh"
LD_LIBRARY_PATH="$WHEEL_LIBRARIES$(driver_libraries "$CHECKOUT/var/nix/driver")"
export LD_LIBRARY_PATH

# Its words are progress: stdout is for what is run in here.
if (cd "$CHECKOUT" && "$UV_PYTHON" -m env.bootstrap >&2); then
    export VIRTUAL_ENV="$CHECKOUT/.venv"
    export PATH="$VIRTUAL_ENV/bin:$PATH"
else
    echo "embedkit: no environment, see above; mend the cause and enter this again" >&2
    case $- in
    *i*) ;; # somebody sits here and may want the tools to mend it
    *) exit 1 ;;
    esac
fi
