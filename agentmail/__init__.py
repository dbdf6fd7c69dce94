"""An inbox for AI agents on any IMAP/SMTP account."""
