-- Who changed what: written in the transaction of the change. Rows are neither changed nor deleted.
CREATE TABLE audit (
    id           INTEGER NOT NULL PRIMARY KEY, -- grows with time; made by quotad, see src/sql/changes.rs
    at           INTEGER NOT NULL,
    actor        TEXT    NOT NULL,
    action       TEXT    NOT NULL, -- the verb: put, delete, credit …
    subject      TEXT    NOT NULL, -- account/<id>, account/<id>/key/<id>, <kind>/<id>
    state_before TEXT,             -- JSON; NULL: it was not there
    state_after  TEXT,             -- JSON; NULL: it is gone
    op_id        TEXT,             -- of an operation that may be repeated: kept once
    UNIQUE (subject, action, op_id)
) STRICT;

CREATE INDEX audit_of_subject ON audit (subject, id);

CREATE TRIGGER audit_keeps_rows BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit only grows: a row cannot be deleted');
END;

CREATE TRIGGER audit_keeps_content BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit only grows: a row cannot be changed');
END;

-- What is set at run time. A setting that went back to its default keeps its row, so that its version grows.
CREATE TABLE settings (
    name       TEXT    NOT NULL PRIMARY KEY,
    version    INTEGER NOT NULL CHECK (version >= 0),
    content    TEXT,             -- JSON; NULL: the deployment's default
    changed_at INTEGER NOT NULL,
    changed_by TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
