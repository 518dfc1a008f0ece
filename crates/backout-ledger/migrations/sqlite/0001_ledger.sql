-- Each record keeps its JSON beside the columns that queries need, and the format that JSON was written in.

CREATE TABLE ledger (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    id         TEXT NOT NULL,
    hash_key   BLOB NOT NULL CHECK (length(hash_key) = 32),
    created_at TEXT NOT NULL
) STRICT;

CREATE TABLE environments (
    app         TEXT NOT NULL,
    environment TEXT NOT NULL,
    format      INTEGER NOT NULL,
    json        TEXT NOT NULL,
    PRIMARY KEY (app, environment)
) STRICT, WITHOUT ROWID;

-- `expires_ms` is on the boot-time clock of `boot_id` and means nothing in another boot.
CREATE TABLE leases (
    app         TEXT NOT NULL,
    environment TEXT NOT NULL,
    epoch       INTEGER NOT NULL,
    pid         INTEGER NOT NULL,
    pid_start   INTEGER NOT NULL,
    boot_id     TEXT NOT NULL,
    expires_ms  INTEGER NOT NULL,
    released    INTEGER NOT NULL CHECK (released IN (0, 1)),
    since       TEXT NOT NULL,
    holder      TEXT NOT NULL,
    PRIMARY KEY (app, environment)
) STRICT, WITHOUT ROWID;

CREATE TABLE operations (
    id          TEXT PRIMARY KEY,
    app         TEXT NOT NULL,
    environment TEXT NOT NULL,
    kind        TEXT NOT NULL,
    open        INTEGER NOT NULL CHECK (open IN (0, 1)),
    format      INTEGER NOT NULL,
    json        TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX operations_open ON operations (app, environment) WHERE open = 1;

-- `hash` chains every entry of the ledger to the one before it, by `id`.
CREATE TABLE entries (
    id        INTEGER PRIMARY KEY,
    operation TEXT NOT NULL REFERENCES operations (id),
    sequence  INTEGER NOT NULL CHECK (sequence > 0),
    format    INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    at        TEXT NOT NULL,
    json      TEXT NOT NULL,
    hash      BLOB NOT NULL CHECK (length(hash) = 32),
    UNIQUE (operation, sequence)
) STRICT;

CREATE TABLE releases (
    id         TEXT PRIMARY KEY,
    app        TEXT NOT NULL,
    version    TEXT NOT NULL,
    created_at TEXT NOT NULL,
    format     INTEGER NOT NULL,
    json       TEXT NOT NULL
) STRICT;

CREATE TABLE deployments (
    app           TEXT NOT NULL,
    environment   TEXT NOT NULL,
    number        INTEGER NOT NULL CHECK (number >= 0),
    id            TEXT NOT NULL UNIQUE,
    kind          TEXT NOT NULL,
    release       TEXT NOT NULL REFERENCES releases (id),
    version       TEXT NOT NULL,
    status        TEXT NOT NULL,
    rejected      INTEGER NOT NULL CHECK (rejected IN (0, 1)),
    started_at    TEXT NOT NULL,
    started_at_ns INTEGER NOT NULL,
    format        INTEGER NOT NULL,
    json          TEXT NOT NULL,
    PRIMARY KEY (app, environment, number)
) STRICT;
CREATE INDEX deployments_status ON deployments (app, environment, status, number);
CREATE INDEX deployments_rollbacks ON deployments (app, environment, number) WHERE kind = 'rollback';
CREATE INDEX deployments_started ON deployments (app, environment, started_at_ns);
CREATE INDEX deployments_release ON deployments (app, release);

CREATE TABLE rollbacks (
    id            TEXT PRIMARY KEY,
    app           TEXT NOT NULL,
    environment   TEXT NOT NULL,
    deployment_to INTEGER NOT NULL,
    status        TEXT NOT NULL,
    format        INTEGER NOT NULL,
    json          TEXT NOT NULL
) STRICT;
CREATE INDEX rollbacks_deployment ON rollbacks (app, environment, deployment_to);

CREATE TABLE requests (
    sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    app         TEXT NOT NULL,
    environment TEXT NOT NULL,
    operation   TEXT NOT NULL,
    kind        TEXT NOT NULL,
    format      INTEGER NOT NULL,
    json        TEXT NOT NULL,
    answer      TEXT
) STRICT;
CREATE INDEX requests_pending ON requests (operation, sequence) WHERE answer IS NULL;

CREATE TABLE outbox (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    topic   TEXT NOT NULL,
    format  INTEGER NOT NULL,
    json    TEXT NOT NULL,
    sent_at TEXT
) STRICT;
CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL;

CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    bytes  BLOB NOT NULL
) STRICT;

CREATE TABLE readiness (
    app         TEXT NOT NULL,
    environment TEXT NOT NULL,
    format      INTEGER NOT NULL,
    json        TEXT NOT NULL,
    PRIMARY KEY (app, environment)
) STRICT, WITHOUT ROWID;

CREATE TABLE health (
    app         TEXT NOT NULL,
    environment TEXT NOT NULL,
    format      INTEGER NOT NULL,
    json        TEXT NOT NULL,
    PRIMARY KEY (app, environment)
) STRICT, WITHOUT ROWID;
