-- What the migrations make of an empty SQLite file: a new store does without Alembic, which takes longer to import and
-- to run than most first commands. Written by scripts/write-schema.py (`make docs`); a test compares.

CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE account (
	"key" TEXT NOT NULL,
	own JSON NOT NULL,
	PRIMARY KEY ("key")
);

CREATE TABLE event (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	at DOUBLE NOT NULL,
	kind TEXT NOT NULL,
	thread INTEGER,
	message INTEGER,
	account TEXT,
	data JSON
, seq INTEGER);

CREATE INDEX event_message ON event (message);

CREATE INDEX event_thread ON event (thread);

CREATE TABLE ident (
	account TEXT NOT NULL,
	"key" TEXT NOT NULL,
	holders TEXT NOT NULL,
	PRIMARY KEY (account, "key")
);

CREATE TABLE info (
	name TEXT NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (name)
);

CREATE TABLE quarantine (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	account TEXT NOT NULL,
	reason TEXT NOT NULL,
	arrival JSON NOT NULL,
	attempts INTEGER NOT NULL,
	at DOUBLE NOT NULL,
	data BLOB NOT NULL
, digest TEXT DEFAULT '' NOT NULL);

CREATE TABLE thread (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	account TEXT NOT NULL,
	subject TEXT NOT NULL,
	status TEXT NOT NULL,
	labels JSON NOT NULL,
	notes JSON NOT NULL,
	data JSON NOT NULL,
	messages INTEGER NOT NULL,
	first_at DOUBLE NOT NULL,
	last_at DOUBLE NOT NULL,
	merged_into INTEGER,
	attached_to INTEGER,
	FOREIGN KEY(attached_to) REFERENCES thread (id),
	FOREIGN KEY(merged_into) REFERENCES thread (id)
);

CREATE INDEX thread_attached ON thread (attached_to) WHERE attached_to IS NOT NULL;

CREATE INDEX thread_merged ON thread (merged_into) WHERE merged_into IS NOT NULL;

CREATE INDEX thread_page ON thread (last_at, id) WHERE merged_into IS NULL AND attached_to IS NULL;

CREATE INDEX thread_page_account ON thread (account, last_at, id) WHERE merged_into IS NULL AND attached_to IS NULL;

CREATE INDEX thread_page_status ON thread (account, status, last_at, id) WHERE merged_into IS NULL AND attached_to IS NULL;

CREATE TABLE apart (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	account TEXT NOT NULL,
	target INTEGER NOT NULL,
	atom TEXT NOT NULL,
	claimant INTEGER NOT NULL,
	"key" TEXT NOT NULL,
	FOREIGN KEY(claimant) REFERENCES thread (id),
	FOREIGN KEY(target) REFERENCES thread (id)
);

CREATE INDEX apart_claimant ON apart (claimant);

CREATE INDEX apart_key ON apart (account, "key");

CREATE INDEX apart_target ON apart (target, atom);

CREATE TABLE message (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	account TEXT NOT NULL,
	thread INTEGER NOT NULL,
	cluster INTEGER NOT NULL,
	message_id TEXT NOT NULL,
	message_id_key TEXT NOT NULL,
	content_key TEXT NOT NULL,
	own_key TEXT,
	at DOUBLE NOT NULL,
	sender TEXT NOT NULL,
	subject_key TEXT NOT NULL,
	answers INTEGER,
	headless BOOLEAN NOT NULL,
	outgoing BOOLEAN NOT NULL,
	fresh BOOLEAN NOT NULL,
	variant BOOLEAN NOT NULL,
	size INTEGER NOT NULL,
	parsed TEXT NOT NULL,
	FOREIGN KEY(cluster) REFERENCES thread (id),
	FOREIGN KEY(thread) REFERENCES thread (id)
);

CREATE INDEX message_by_message_id ON message (message_id_key, account);

CREATE INDEX message_cluster ON message (cluster, at);

CREATE UNIQUE INDEX message_content ON message (account, content_key);

CREATE INDEX message_headless ON message (account, subject_key, at) WHERE headless;

CREATE INDEX message_headless_cluster ON message (cluster) WHERE headless;

CREATE UNIQUE INDEX message_own ON message (account, own_key) WHERE own_key IS NOT NULL;

CREATE INDEX message_subject ON message (account, subject_key, at) WHERE subject_key <> '';

CREATE INDEX message_thread ON message (thread, at, id);

CREATE TABLE person (
	thread INTEGER NOT NULL,
	atom TEXT NOT NULL,
	name TEXT NOT NULL,
	PRIMARY KEY (thread, atom),
	FOREIGN KEY(thread) REFERENCES thread (id)
);

CREATE TABLE alias (
	account TEXT NOT NULL,
	"key" TEXT NOT NULL,
	message INTEGER NOT NULL,
	message_id TEXT NOT NULL,
	PRIMARY KEY (account, "key", message),
	FOREIGN KEY(message) REFERENCES message (id)
);

CREATE INDEX alias_message ON alias (message);

CREATE TABLE attachment (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	message INTEGER NOT NULL,
	position INTEGER NOT NULL,
	name TEXT NOT NULL,
	content_type TEXT NOT NULL,
	size INTEGER NOT NULL,
	FOREIGN KEY(message) REFERENCES message (id)
);

CREATE UNIQUE INDEX attachment_message ON attachment (message, position);

CREATE TABLE location (
	account TEXT NOT NULL,
	mailbox TEXT NOT NULL,
	uidvalidity BIGINT NOT NULL,
	uid BIGINT NOT NULL,
	message INTEGER NOT NULL,
	flags JSON NOT NULL,
	PRIMARY KEY (account, mailbox, uidvalidity, uid),
	FOREIGN KEY(message) REFERENCES message (id)
);

CREATE INDEX location_message ON location (message);

CREATE TABLE raw (
	message INTEGER NOT NULL,
	data BLOB NOT NULL,
	PRIMARY KEY (message),
	FOREIGN KEY(message) REFERENCES message (id)
);

CREATE TABLE submission (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	account TEXT NOT NULL,
	state TEXT NOT NULL,
	kind TEXT NOT NULL,
	origin TEXT NOT NULL,
	agent TEXT NOT NULL,
	"key" TEXT,
	message_id TEXT NOT NULL,
	message INTEGER,
	answers INTEGER,
	generation INTEGER,
	mail_from TEXT NOT NULL,
	subject TEXT NOT NULL,
	size INTEGER NOT NULL,
	digest TEXT NOT NULL,
	at_most_once BOOLEAN NOT NULL,
	reasons JSON NOT NULL,
	created_at DOUBLE NOT NULL,
	next_at DOUBLE,
	expires_at DOUBLE,
	attempts INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	marker_at DOUBLE,
	looks INTEGER NOT NULL,
	code INTEGER,
	error TEXT NOT NULL,
	reply TEXT NOT NULL,
	sent_at DOUBLE,
	copied BOOLEAN NOT NULL,
	decision TEXT NOT NULL,
	decided_by TEXT NOT NULL,
	decided_at DOUBLE, return_tag TEXT,
	FOREIGN KEY(message) REFERENCES message (id) ON DELETE SET NULL
);

CREATE UNIQUE INDEX submission_key ON submission (account, "key");

CREATE UNIQUE INDEX submission_message_id ON submission (account, message_id);

CREATE UNIQUE INDEX submission_answer ON submission (account, answers, generation);

CREATE INDEX submission_due ON submission (account, next_at) WHERE state IN ('queued', 'sending', 'unknown');

CREATE INDEX submission_state ON submission (account, state, id);

CREATE INDEX submission_created ON submission (account, created_at);

CREATE INDEX submission_message ON submission (message);

CREATE TABLE recipient (
	submission INTEGER NOT NULL,
	position INTEGER NOT NULL,
	address TEXT NOT NULL,
	state TEXT NOT NULL,
	code INTEGER,
	text TEXT NOT NULL,
	PRIMARY KEY (submission, position),
	FOREIGN KEY(submission) REFERENCES submission (id) ON DELETE CASCADE
);

CREATE INDEX recipient_address ON recipient (address, submission);

CREATE TABLE submission_body (
	submission INTEGER NOT NULL,
	data BLOB NOT NULL,
	PRIMARY KEY (submission),
	FOREIGN KEY(submission) REFERENCES submission (id) ON DELETE CASCADE
);

CREATE TABLE pause (
	account TEXT NOT NULL,
	cause TEXT NOT NULL,
	reason TEXT NOT NULL,
	"by" TEXT NOT NULL,
	at DOUBLE NOT NULL,
	until DOUBLE,
	PRIMARY KEY (account, cause)
);

CREATE TABLE granted (
	account TEXT NOT NULL,
	address TEXT NOT NULL,
	reason TEXT NOT NULL,
	at DOUBLE NOT NULL,
	PRIMARY KEY (account, address)
);

CREATE TABLE mailbox (
	account TEXT NOT NULL,
	name TEXT NOT NULL,
	uidvalidity BIGINT NOT NULL,
	floor BIGINT NOT NULL,
	history BIGINT NOT NULL,
	low BIGINT NOT NULL,
	uidnext BIGINT NOT NULL,
	modseq BIGINT,
	messages INTEGER NOT NULL,
	first_at DOUBLE NOT NULL,
	synced_at DOUBLE NOT NULL,
	reconciled_at DOUBLE NOT NULL,
	resets JSON NOT NULL,
	parked_until DOUBLE NOT NULL,
	failures INTEGER NOT NULL,
	error TEXT NOT NULL,
	holder TEXT NOT NULL,
	lease_until DOUBLE NOT NULL,
	epoch BIGINT NOT NULL,
	PRIMARY KEY (account, name)
);

CREATE TABLE skipped (
	account TEXT NOT NULL,
	mailbox TEXT NOT NULL,
	uidvalidity BIGINT NOT NULL,
	uid BIGINT NOT NULL,
	attempts INTEGER NOT NULL,
	settled BOOLEAN NOT NULL,
	reason TEXT NOT NULL,
	at DOUBLE NOT NULL,
	PRIMARY KEY (account, mailbox, uidvalidity, uid)
);

CREATE TABLE departed (
	account TEXT NOT NULL,
	mailbox TEXT NOT NULL,
	uidvalidity BIGINT NOT NULL,
	uid BIGINT NOT NULL,
	at DOUBLE NOT NULL,
	PRIMARY KEY (account, mailbox, uidvalidity, uid)
);

CREATE TABLE connectivity (
	account TEXT NOT NULL,
	state TEXT NOT NULL,
	failures INTEGER NOT NULL,
	until DOUBLE NOT NULL,
	secret TEXT NOT NULL,
	error TEXT NOT NULL,
	at DOUBLE NOT NULL,
	PRIMARY KEY (account)
);

CREATE TABLE receipt (
	agent TEXT NOT NULL,
	message INTEGER NOT NULL,
	PRIMARY KEY (agent, message),
	FOREIGN KEY(message) REFERENCES message (id) ON DELETE CASCADE
);

CREATE INDEX receipt_message ON receipt (message);

CREATE TABLE receipt_mark (
	agent TEXT NOT NULL,
	account TEXT NOT NULL,
	low INTEGER NOT NULL,
	PRIMARY KEY (agent, account)
);

CREATE VIRTUAL TABLE search USING fts5(subject, sender, recipients, body, marks, content='', tokenize='ascii');

INSERT INTO search(search, rank) VALUES ('automerge', 16);

INSERT INTO search(search, rank) VALUES ('hashsize', 33554432);

CREATE TABLE work (
	thread INTEGER NOT NULL,
	account TEXT NOT NULL,
	agent TEXT NOT NULL,
	state TEXT NOT NULL,
	reason TEXT NOT NULL,
	note TEXT NOT NULL,
	next_at DOUBLE NOT NULL,
	attempt INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	newest INTEGER NOT NULL,
	done INTEGER NOT NULL,
	error TEXT NOT NULL, seen INTEGER DEFAULT '0' NOT NULL, round INTEGER DEFAULT '0' NOT NULL, woken INTEGER DEFAULT '0' NOT NULL,
	PRIMARY KEY (thread),
	FOREIGN KEY(thread) REFERENCES thread (id) ON DELETE CASCADE
);

CREATE TABLE timer (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	thread INTEGER NOT NULL,
	account TEXT NOT NULL,
	agent TEXT NOT NULL,
	due_at DOUBLE NOT NULL,
	note TEXT NOT NULL, kind TEXT DEFAULT 'reminder' NOT NULL, text TEXT DEFAULT '' NOT NULL, origin TEXT DEFAULT 'program' NOT NULL, "key" TEXT DEFAULT '' NOT NULL,
	FOREIGN KEY(thread) REFERENCES thread (id) ON DELETE CASCADE
);

CREATE INDEX timer_thread ON timer (thread);

CREATE UNIQUE INDEX event_seq ON event (seq);

CREATE INDEX event_unpublished ON event (id) WHERE seq IS NULL;

CREATE TABLE cursor (
	name TEXT NOT NULL,
	seq INTEGER NOT NULL,
	PRIMARY KEY (name)
);

CREATE INDEX work_due ON work (account, agent, next_at) WHERE state <> 'idle';

CREATE INDEX timer_due ON timer (account, due_at);

CREATE UNIQUE INDEX timer_key ON timer (account, "key");

CREATE TABLE webhook (
	name TEXT NOT NULL,
	holder TEXT NOT NULL,
	epoch INTEGER NOT NULL,
	lease_until DOUBLE NOT NULL,
	attempts INTEGER NOT NULL,
	next_at DOUBLE NOT NULL,
	gone INTEGER NOT NULL,
	error TEXT NOT NULL,
	PRIMARY KEY (name)
);

CREATE TABLE slot (
	account TEXT NOT NULL,
	number INTEGER NOT NULL,
	holder TEXT NOT NULL,
	until DOUBLE NOT NULL,
	PRIMARY KEY (account, number)
);

CREATE TABLE traffic (
	account TEXT NOT NULL,
	day TEXT NOT NULL,
	fetched BIGINT NOT NULL,
	PRIMARY KEY (account, day)
);

CREATE TABLE gmail (
	account TEXT NOT NULL,
	msgid TEXT NOT NULL,
	thrid TEXT NOT NULL,
	labels JSON NOT NULL,
	message INTEGER NOT NULL,
	PRIMARY KEY (account, msgid),
	FOREIGN KEY(message) REFERENCES message (id)
);

CREATE INDEX gmail_message ON gmail (message);

CREATE INDEX quarantine_digest ON quarantine (account, digest);

CREATE INDEX thread_page_of_status ON thread (status, last_at, id) WHERE merged_into IS NULL AND attached_to IS NULL;

CREATE INDEX work_agent ON work (agent) WHERE state <> 'idle';

CREATE INDEX work_stuck ON work (thread) WHERE state = 'stuck';

CREATE TABLE holder (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	account TEXT NOT NULL,
	"key" TEXT NOT NULL,
	thread INTEGER NOT NULL,
	role TEXT NOT NULL,
	voucher TEXT NOT NULL,
	FOREIGN KEY(thread) REFERENCES thread (id)
);

CREATE INDEX holder_key ON holder (account, "key", thread);

CREATE INDEX holder_thread ON holder (thread);

CREATE TABLE label (
	folded TEXT NOT NULL,
	thread INTEGER NOT NULL,
	PRIMARY KEY (folded, thread),
	FOREIGN KEY(thread) REFERENCES thread (id)
);

CREATE INDEX label_thread ON label (thread);

CREATE INDEX submission_return_tag ON submission (account, return_tag);

CREATE INDEX attachment_size ON attachment (size, id);

INSERT INTO alembic_version (version_num) VALUES ('0015_attachment_size');
