BEGIN TRANSACTION;
CREATE TABLE account (
	"key" TEXT NOT NULL, 
	own JSON NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "account" VALUES('support@our.example','["support@our.example"]');
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001_threads');
CREATE TABLE alias (
	account TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	message INTEGER NOT NULL, 
	message_id TEXT NOT NULL, 
	PRIMARY KEY (account, "key", message), 
	FOREIGN KEY(message) REFERENCES message (id)
);
INSERT INTO "alias" VALUES('support@our.example','<x@id.example>',1,'<x@id.example>');
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
INSERT INTO "apart" VALUES(1,'support@our.example',1,'~eve@evil.example',4,'<a@id.example>');
INSERT INTO "apart" VALUES(2,'support@our.example',1,'eve@evil.example',4,'<a@id.example>');
INSERT INTO "apart" VALUES(3,'support@our.example',1,'@evil.example',4,'<a@id.example>');
INSERT INTO "apart" VALUES(4,'support@our.example',1,'~eve@evil.example',4,'<b@id.example>');
INSERT INTO "apart" VALUES(5,'support@our.example',1,'eve@evil.example',4,'<b@id.example>');
INSERT INTO "apart" VALUES(6,'support@our.example',1,'@evil.example',4,'<b@id.example>');
CREATE TABLE attachment (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	message INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	content_type TEXT NOT NULL, 
	size INTEGER NOT NULL, 
	FOREIGN KEY(message) REFERENCES message (id)
);
CREATE TABLE event (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	at DOUBLE NOT NULL, 
	kind TEXT NOT NULL, 
	thread INTEGER, 
	message INTEGER, 
	account TEXT, 
	data JSON
);
INSERT INTO "event" VALUES(1,1.79525434860404610633e+09,'message.filed',1,1,'support@our.example','{"outgoing": false}');
INSERT INTO "event" VALUES(2,1795254348.62385,'message.filed',2,2,'support@our.example','{"outgoing": false}');
INSERT INTO "event" VALUES(3,1.79525434863495588302e+09,'thread.merged',1,NULL,'support@our.example','{"absorbed": "t2"}');
INSERT INTO "event" VALUES(4,1.79525434865403890607e+09,'message.filed',3,3,'support@our.example','{"outgoing": false}');
INSERT INTO "event" VALUES(5,1.79525434866253900522e+09,'message.filed',4,4,'support@our.example','{"outgoing": false}');
INSERT INTO "event" VALUES(6,1795254348.6729,'thread.labels',1,NULL,'support@our.example','{"labels": ["vip"]}');
INSERT INTO "event" VALUES(7,1.79525434867615389829e+09,'thread.data',1,NULL,'support@our.example','{"keys": ["order"]}');
CREATE TABLE ident (
	account TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	holders TEXT NOT NULL, 
	PRIMARY KEY (account, "key")
);
INSERT INTO "ident" VALUES('support@our.example','<a@id.example>','[[1, "own", "?@customer.example\nana@customer.example\n~ana@customer.example"], [4, "firm", "?@evil.example\neve@evil.example\n~eve@evil.example"]]');
INSERT INTO "ident" VALUES('support@our.example','<b@id.example>','[[1, "own", "?@customer.example\nana@customer.example\n~ana@customer.example"], [4, "firm", "?@evil.example\neve@evil.example\n~eve@evil.example"]]');
INSERT INTO "ident" VALUES('support@our.example','<x@id.example>','[[1, "firm", "?@customer.example\nana@customer.example\n~ana@customer.example"], [1, "own", "?@customer.example\nana@customer.example\n~ana@customer.example"]]');
INSERT INTO "ident" VALUES('support@our.example','<other@id.example>','[[3, "own", "?@partner.example\ndan@partner.example\n~dan@partner.example"]]');
INSERT INTO "ident" VALUES('support@our.example','<e@id.example>','[[4, "own", "?@evil.example\neve@evil.example\n~eve@evil.example"]]');
CREATE TABLE info (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "info" VALUES('secret','445df1f8d79d88b5cfc20f4deda88daac6d1cd023a4a27365162aac90e47cb1e');
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
INSERT INTO "location" VALUES('support@our.example','INBOX',1,1,1,'[]');
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
INSERT INTO "message" VALUES(1,'support@our.example',1,1,'<a@id.example>','<a@id.example>','8dbdbaf55815ebed2884cfd97c42b51ef3263026',NULL,1772355600.0,'ana@customer.example','invoice42',NULL,0,0,1,0,14,'{"message_id":"<a@id.example>","other_ids":[],"in_reply_to":[],"references":[],"subject":"Invoice 42","sender":{"name":"","email":"ana@customer.example"},"to":[{"name":"","email":"support@our.example"}],"cc":[],"reply_to":[],"sent_at":"2026-03-01T09:00:00Z","received_at":null,"text":"a","html":null,"attachments":[],"headers":[],"thread_index":null,"thread_topic":null,"automated":null,"bounce":null,"auth":null,"invitation":null,"defects":[],"outgoing":false,"size":0}');
INSERT INTO "message" VALUES(2,'support@our.example',1,1,'<b@id.example>','<b@id.example>','b416d604a38bf710c8362831f9866c534a737c9e',NULL,1772442000.0,'ana@customer.example','invoice42',NULL,0,0,1,0,0,'{"message_id":"<b@id.example>","other_ids":[],"in_reply_to":["<x@id.example>"],"references":["<x@id.example>"],"subject":"Invoice 42","sender":{"name":"","email":"ana@customer.example"},"to":[{"name":"","email":"support@our.example"}],"cc":[],"reply_to":[],"sent_at":"2026-03-02T09:00:00Z","received_at":null,"text":"b","html":null,"attachments":[],"headers":[],"thread_index":null,"thread_topic":null,"automated":null,"bounce":null,"auth":null,"invitation":null,"defects":[],"outgoing":false,"size":0}');
INSERT INTO "message" VALUES(3,'support@our.example',3,3,'<other@id.example>','<other@id.example>','2849cf9d6b8d9d856f5536ef1438f28c3e907d02',NULL,1772355600.0,'dan@partner.example','other',NULL,0,0,1,0,0,'{"message_id":"<other@id.example>","other_ids":[],"in_reply_to":[],"references":[],"subject":"Other","sender":{"name":"","email":"dan@partner.example"},"to":[{"name":"","email":"support@our.example"}],"cc":[],"reply_to":[],"sent_at":"2026-03-01T09:00:00Z","received_at":null,"text":"other","html":null,"attachments":[],"headers":[],"thread_index":null,"thread_topic":null,"automated":null,"bounce":null,"auth":null,"invitation":null,"defects":[],"outgoing":false,"size":0}');
INSERT INTO "message" VALUES(4,'support@our.example',4,4,'<e@id.example>','<e@id.example>','bfb49be961541a222113353f60e530ca08d410eb',NULL,1772355600.0,'eve@evil.example','mine',NULL,0,0,1,0,0,'{"message_id":"<e@id.example>","other_ids":[],"in_reply_to":["<b@id.example>"],"references":["<a@id.example>","<b@id.example>"],"subject":"Mine","sender":{"name":"","email":"eve@evil.example"},"to":[{"name":"","email":"support@our.example"}],"cc":[],"reply_to":[],"sent_at":"2026-03-01T09:00:00Z","received_at":null,"text":"e","html":null,"attachments":[],"headers":[],"thread_index":null,"thread_topic":null,"automated":null,"bounce":null,"auth":null,"invitation":null,"defects":[],"outgoing":false,"size":0}');
CREATE TABLE person (
	thread INTEGER NOT NULL, 
	atom TEXT NOT NULL, 
	name TEXT NOT NULL, 
	PRIMARY KEY (thread, atom), 
	FOREIGN KEY(thread) REFERENCES thread (id)
);
INSERT INTO "person" VALUES(1,'@customer.example','');
INSERT INTO "person" VALUES(1,'@our.example','');
INSERT INTO "person" VALUES(1,'ana@customer.example','');
INSERT INTO "person" VALUES(1,'support@our.example','');
INSERT INTO "person" VALUES(3,'@our.example','');
INSERT INTO "person" VALUES(3,'@partner.example','');
INSERT INTO "person" VALUES(3,'dan@partner.example','');
INSERT INTO "person" VALUES(3,'support@our.example','');
INSERT INTO "person" VALUES(4,'@evil.example','');
INSERT INTO "person" VALUES(4,'@our.example','');
INSERT INTO "person" VALUES(4,'eve@evil.example','');
INSERT INTO "person" VALUES(4,'support@our.example','');
CREATE TABLE quarantine (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	account TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	arrival JSON NOT NULL, 
	attempts INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	data BLOB NOT NULL
);
CREATE TABLE raw (
	message INTEGER NOT NULL, 
	data BLOB NOT NULL, 
	PRIMARY KEY (message), 
	FOREIGN KEY(message) REFERENCES message (id)
);
INSERT INTO "raw" VALUES(1,X'726177206279746573206F662061');
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
INSERT INTO "thread" VALUES(1,'support@our.example','Invoice 42','open','["vip"]','[]','{"order": 42}',2,1772355600.0,1772442000.0,NULL,NULL);
INSERT INTO "thread" VALUES(2,'support@our.example','Invoice 42','open','[]','[]','{}',0,1772442000.0,1772442000.0,1,NULL);
INSERT INTO "thread" VALUES(3,'support@our.example','Other','open','[]','[]','{}',1,1772355600.0,1772355600.0,NULL,NULL);
INSERT INTO "thread" VALUES(4,'support@our.example','Mine','open','[]','[]','{}',1,1772355600.0,1772355600.0,NULL,NULL);
CREATE INDEX event_message ON event (message);
CREATE INDEX event_thread ON event (thread);
CREATE INDEX thread_attached ON thread (attached_to) WHERE attached_to IS NOT NULL;
CREATE INDEX thread_merged ON thread (merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX thread_page ON thread (last_at, id) WHERE merged_into IS NULL AND attached_to IS NULL;
CREATE INDEX thread_page_account ON thread (account, last_at, id) WHERE merged_into IS NULL AND attached_to IS NULL;
CREATE INDEX thread_page_status ON thread (account, status, last_at, id) WHERE merged_into IS NULL AND attached_to IS NULL;
CREATE INDEX apart_claimant ON apart (claimant);
CREATE INDEX apart_key ON apart (account, "key");
CREATE INDEX apart_target ON apart (target, atom);
CREATE INDEX message_by_message_id ON message (message_id_key, account);
CREATE INDEX message_cluster ON message (cluster, at);
CREATE UNIQUE INDEX message_content ON message (account, content_key);
CREATE INDEX message_headless ON message (account, subject_key, at) WHERE headless;
CREATE INDEX message_headless_cluster ON message (cluster) WHERE headless;
CREATE UNIQUE INDEX message_own ON message (account, own_key) WHERE own_key IS NOT NULL;
CREATE INDEX message_subject ON message (account, subject_key, at) WHERE subject_key <> '';
CREATE INDEX message_thread ON message (thread, at, id);
CREATE INDEX alias_message ON alias (message);
CREATE UNIQUE INDEX attachment_message ON attachment (message, position);
CREATE INDEX location_message ON location (message);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('event',7);
INSERT INTO "sqlite_sequence" VALUES('quarantine',0);
INSERT INTO "sqlite_sequence" VALUES('thread',4);
INSERT INTO "sqlite_sequence" VALUES('apart',6);
INSERT INTO "sqlite_sequence" VALUES('message',4);
INSERT INTO "sqlite_sequence" VALUES('attachment',0);
COMMIT;
