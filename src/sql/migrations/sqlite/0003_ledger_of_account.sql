-- An account's rows in the order of the ledger, rejected ones too: what its sums are checked against.
CREATE INDEX ledger_of_account ON ledger (account, generation, seq);
