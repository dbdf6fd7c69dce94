#!/bin/sh
# The peers that the measurements stand beside: `sh bench/peers.sh` for all of them, or name some.
#   mail     notmuch and mu (package maildir-utils), from Debian, for `python -m bench ingest`
#   sync     mbsync (package isync), offlineimap3 and getmail6, from Debian, for `python -m bench.imap ingest`
#   queues   procrastinate and pgqueuer, in an environment of their own, for `python -m bench turns`
set -eu
cd "$(dirname "$0")/.."
for what in ${*:-mail sync queues}; do
	case $what in
	mail)
		command -v notmuch >/dev/null && command -v mu >/dev/null && continue
		apt-get install -y -q notmuch maildir-utils
		;;
	sync)
		command -v mbsync >/dev/null && command -v offlineimap >/dev/null && command -v getmail >/dev/null && continue
		apt-get install -y -q isync offlineimap3 getmail6
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
