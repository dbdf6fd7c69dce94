#!/bin/sh
# The peers that the measurements stand beside: `sh bench/peers.sh` for all of them, or name some.
#   mail     notmuch and mu (package maildir-utils), from Debian, for `python -m bench ingest`
#   queues   procrastinate and pgqueuer, in an environment of their own, for `python -m bench turns`
set -eu
cd "$(dirname "$0")/.."
for what in ${*:-mail queues}; do
	case $what in
	mail)
		command -v notmuch >/dev/null && command -v mu >/dev/null && continue
		apt-get install -y -q notmuch maildir-utils
		;;
	queues)
		[ -x .cache/peers/bin/python ] || "${PYTHON:-python3}" -m venv .cache/peers
		.cache/peers/bin/python -m pip install -q 'procrastinate>=3.10,<4' 'pgqueuer>=1.6,<2' 'asyncpg<1' 'psycopg[binary,pool]<4'
		;;
	*)
		echo "no such peers: $what" >&2
		exit 2
		;;
	esac
done
