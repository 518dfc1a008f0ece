-- The audit log: a Merkle tree (RFC 6962) over every record of the history. It takes the place of the chain of
-- hashes over entries, which goes once their leaves are there.

CREATE TABLE audit_leaves (
    leaf    INTEGER PRIMARY KEY CHECK (leaf >= 0),
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    format  INTEGER NOT NULL,
    digest  BLOB NOT NULL CHECK (length(digest) = 32),
    at      TEXT NOT NULL
) STRICT;

-- How many leaves there are, and the roots of the whole subtrees over them, the largest first.
CREATE TABLE audit_head (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    size     INTEGER NOT NULL CHECK (size >= 0),
    peaks    BLOB NOT NULL
) STRICT;
INSERT INTO audit_head (only_row, size, peaks) VALUES (1, 0, x'');
