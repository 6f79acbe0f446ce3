# shellcheck shell=bash
# What the scripts share. Sourced, never run; $0 is the script that sources it.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$root/.cache
python_env=$cache/python
onnxruntime_library=$cache/onnxruntime/libonnxruntime.so

# rustup's usual place, for shells that have not read the profile since it was installed.
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH=$HOME/.cargo/bin:$PATH
fi

# An active environment of the tests hides dcmtk's storescu, storescp and echoscu behind pynetdicom's.
PATH=:$PATH:
PATH=${PATH//:$python_env\/bin:/:}
PATH=${PATH#:}
PATH=${PATH%:}

# What the binary looks for beside itself, said outright: CARGO_TARGET_DIR may be anywhere.
use_checkout() {
    export FIRSTREAD_ANALYSIS__ONNXRUNTIME=${FIRSTREAD_ANALYSIS__ONNXRUNTIME:-$onnxruntime_library}
    export FIRSTREAD_ANALYSIS__MODELS=${FIRSTREAD_ANALYSIS__MODELS:-$root/models}
}

# ONNX Runtime tells its maker what it runs otherwise; firstread itself sees to that (src/cli/anew.rs), Python does not.
export ORT_DISABLE_TELEMETRY=1

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# A TCP port of the loopback address that nothing listens on now.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Whether something accepts connections on ADDRESS:PORT.
port_taken() {
    python3 - "$1" <<'PYTHON'
import socket, sys
host, _, port = sys.argv[1].rpartition(":")
with socket.socket() as probe:
    sys.exit(probe.connect_ex((host, int(port))) != 0)
PYTHON
}
