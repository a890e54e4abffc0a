/**
 * Each is run once, in this order, and never changed: processes of the version before go on while it is.
 * So none takes away what they read.
 */
export const migrations = [
  `
  CREATE TABLE runs (
    id uuid PRIMARY KEY,
    owner text NOT NULL,
    report text NOT NULL,
    version integer NOT NULL,
    -- json, not jsonb, which has no U+0000 and another order of keys.
    parameters json NOT NULL,
    viewer json,
    fingerprint bytea NOT NULL,
    state text NOT NULL DEFAULT 'queued',
    attempt integer NOT NULL DEFAULT 0,
    file_id uuid UNIQUE,
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    sha256 text,
    error_code text,
    error_message text,
    created_at timestamptz(3) NOT NULL DEFAULT now(),
    started_at timestamptz(3),
    finished_at timestamptz(3),
    expires_at timestamptz(3),
    -- Until then somebody is reading its file.
    read_until timestamptz(3)
  );
  CREATE UNIQUE INDEX open_runs ON runs (owner, fingerprint) WHERE state IN ('queued', 'running');
  CREATE INDEX runs_of_owner ON runs (owner, created_at DESC, id DESC);
  CREATE INDEX runs_that_expire ON runs (expires_at) WHERE expires_at IS NOT NULL;

  CREATE TABLE idempotency_keys (
    owner text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
    PRIMARY KEY (owner, key)
  );
  CREATE INDEX keys_of_run ON idempotency_keys (run_id);
  `
]
