#!/bin/sh
# The peers of `python -m bench ingest`, from Debian: notmuch, and mu (package maildir-utils).
command -v notmuch >/dev/null && command -v mu >/dev/null && exit 0
apt-get install -y -q notmuch maildir-utils
