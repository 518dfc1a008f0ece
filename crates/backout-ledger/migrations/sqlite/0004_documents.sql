-- Small documents beside the history, such as what the judge saw: the newest of each name, and a bounded number of them.
CREATE TABLE documents (
    app         TEXT NOT NULL,
    environment TEXT NOT NULL,
    name        TEXT NOT NULL,
    written_ms  INTEGER NOT NULL,
    format      INTEGER NOT NULL,
    json        TEXT NOT NULL,
    PRIMARY KEY (app, environment, name)
) STRICT, WITHOUT ROWID;
