-- The tables of migrations/sqlite/0005_settings.sql, with the comments that say what they are for. Every
-- statement can be repeated.
CREATE TABLE IF NOT EXISTS audit (
    id           BIGINT       NOT NULL PRIMARY KEY,
    at           BIGINT       NOT NULL,
    actor        VARCHAR(128) NOT NULL,
    action       VARCHAR(32)  NOT NULL,
    subject      VARCHAR(512) NOT NULL,
    state_before MEDIUMTEXT,
    state_after  MEDIUMTEXT,
    op_id        VARCHAR(128),
    UNIQUE KEY audit_operation (subject, action, op_id),
    KEY audit_of_subject (subject, id)
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

DROP TRIGGER IF EXISTS audit_keeps_rows;
CREATE TRIGGER audit_keeps_rows BEFORE DELETE ON audit FOR EACH ROW
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the audit only grows: a row cannot be deleted';
DROP TRIGGER IF EXISTS audit_keeps_content;
CREATE TRIGGER audit_keeps_content BEFORE UPDATE ON audit FOR EACH ROW
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the audit only grows: a row cannot be changed';

CREATE TABLE IF NOT EXISTS settings (
    name       VARCHAR(128) NOT NULL PRIMARY KEY,
    version    BIGINT       NOT NULL CHECK (version >= 0),
    content    MEDIUMTEXT,
    changed_at BIGINT       NOT NULL,
    changed_by VARCHAR(128) NOT NULL
) ENGINE InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
