-- Small documents beside the history, such as what the judge saw: the newest of each name, and a bounded number of them.
CREATE TABLE documents (
    app         TEXT COLLATE "C" NOT NULL,
    environment TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    written_ms  BIGINT NOT NULL,
    format      BIGINT NOT NULL,
    json        TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (app, environment, name)
);
