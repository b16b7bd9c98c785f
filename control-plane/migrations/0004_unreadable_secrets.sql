-- References of a definition that the agent could not read when the definition came: JSON, a list.

ALTER TABLE verdict ADD COLUMN unreadable_secrets TEXT NOT NULL DEFAULT '[]';
