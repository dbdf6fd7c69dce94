#!/bin/sh
# Install the real servers that the tests run against, when they are missing and we may.
# Exit 0 in any case: tests whose server is missing are skipped and say so (in CI nothing may skip).
set -u
missing=""
[ -x /usr/sbin/dovecot ] && [ -x /usr/lib/dovecot/imap ] && [ -x /usr/lib/dovecot/lmtp ] || missing="$missing dovecot-imapd dovecot-lmtpd"
[ -x /usr/lib/postfix/sbin/master ] || missing="$missing postfix"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
command -v openssl >/dev/null 2>&1 || missing="$missing openssl" # the tests make their own certificates
command -v ip >/dev/null 2>&1 || missing="$missing iproute2" # machines of their own, in network namespaces
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing$missing …" >&2
	# The packages start their own services; the tests start private ones. A policy that says no keeps ports free.
	policy=/usr/sbin/policy-rc.d made=""
	[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=yes; }
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086
	{ apt-get install -y -qq --no-install-recommends $missing || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; }; } >/dev/null 2>&1
	status=$?
	[ -z "$made" ] || rm -f "$policy"
	[ "$status" = 0 ] && exit 0
fi
echo "skipping the tests that need$missing: install them with: apt-get install$missing" >&2
exit 0
