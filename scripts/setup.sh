#!/bin/sh
# Make the virtual environment with agentmail, its extras, the tools of its tests and the frameworks of its examples. Usage: setup.sh PYTHON VENV
set -eu
python=$1 venv=$2
"$python" - <<'EOF' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"agentmail needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make PYTHON=python3.12 …")
EOF
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || {
	echo "cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2
	exit 1
}
echo "setting up $venv (once) …" >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[postgres,testing]' --group dev --group frameworks
