/**
 * The receipts of all instances. `json`, not `jsonb`: it takes whatever text the code of a source's error holds, and
 * keeps the order of the keys. Of an export without an end it is what was known at its start. A receipt's age counts from when it was written, by the one clock that all instances share.
 */
export const createReceipts = `
  CREATE TABLE IF NOT EXISTS receipts (
    id uuid PRIMARY KEY,
    receipt json NOT NULL,
    kept_since timestamptz NOT NULL DEFAULT now()
  );
  ALTER TABLE receipts ADD COLUMN IF NOT EXISTS has_ended boolean NOT NULL DEFAULT true;
  CREATE INDEX IF NOT EXISTS receipts_by_age ON receipts (kept_since);
`
