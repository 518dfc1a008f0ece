-- Standing controllers. `expires_ms` is on the same clock as that of a lease.

CREATE TABLE controllers (
    id         TEXT PRIMARY KEY,
    expires_ms INTEGER NOT NULL,
    format     INTEGER NOT NULL,
    json       TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX requests_orders ON requests (app, environment, sequence) WHERE kind = 'deploy' AND answer IS NULL;
