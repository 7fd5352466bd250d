-- What becomes of an account's calls while Redis cannot decide them; NULL: the deployment's setting.
ALTER TABLE accounts ADD COLUMN on_unavailable TEXT CHECK (on_unavailable IN ('deny', 'allow'));
