-- +goose Up

-- A hold on a subject has a data key while it lasts; a hold on an entity has none.
CREATE TABLE holds (
    id          TEXT NOT NULL PRIMARY KEY,
    restriction BOOLEAN NOT NULL,
    tenant      TEXT NOT NULL,
    system      TEXT NOT NULL,
    entity      TEXT NOT NULL,
    conditions  TEXT,
    reference   TEXT NOT NULL,
    request     TEXT NOT NULL, -- the restriction request that it follows from; outlives it
    review      DATETIME,
    placed_by   TEXT NOT NULL,
    lifted_by   TEXT NOT NULL,
    created_at  DATETIME NOT NULL,
    lifted_at   DATETIME,
    data_key    BLOB,
    version     INTEGER NOT NULL
);
CREATE INDEX holds_created ON holds (id) WHERE lifted_at IS NULL;
CREATE INDEX holds_review ON holds (review) WHERE lifted_at IS NULL;
CREATE INDEX holds_lifted ON holds (lifted_at) WHERE lifted_at IS NOT NULL;

CREATE TABLE hold_identifiers (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    hold       TEXT NOT NULL REFERENCES holds (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    origin     TEXT NOT NULL,
    source     TEXT NOT NULL,
    ciphertext BLOB, -- null once forgotten, and of further commitments to the same value
    key_id     TEXT NOT NULL,
    commitment TEXT NOT NULL,
    UNIQUE (hold, name, commitment)
);
CREATE INDEX hold_identifiers_commitment ON hold_identifiers (commitment);

-- What Lethe remembers of a deletion rule between its sweeps.
CREATE TABLE rule_states (
    rule          TEXT NOT NULL PRIMARY KEY,
    approved_hash TEXT NOT NULL,
    approved_by   TEXT NOT NULL,
    approved_at   DATETIME,
    paused_by     TEXT NOT NULL,
    paused_at     DATETIME,
    counted       DATETIME,
    due           INTEGER NOT NULL,
    held          INTEGER NOT NULL,
    blocked       INTEGER NOT NULL,
    backlog       INTEGER NOT NULL,
    last_success  DATETIME
);

CREATE TABLE sweeps (
    id          TEXT NOT NULL PRIMARY KEY,
    rule        TEXT NOT NULL,
    system      TEXT NOT NULL,
    entity      TEXT NOT NULL,
    action      TEXT NOT NULL,
    rule_hash   TEXT NOT NULL,
    map_version INTEGER NOT NULL,
    state       TEXT NOT NULL,
    started_by  TEXT NOT NULL,
    at_once     BOOLEAN NOT NULL,
    cut_off     DATETIME NOT NULL,
    due         INTEGER,
    held        INTEGER NOT NULL,
    blocked     INTEGER NOT NULL,
    total       INTEGER NOT NULL,
    blocked_by  TEXT,
    approved_by TEXT NOT NULL,
    approved    INTEGER NOT NULL,
    remaining   INTEGER,
    measures    TEXT NOT NULL,
    reason      TEXT NOT NULL,
    hint        TEXT NOT NULL,
    created_at  DATETIME NOT NULL,
    updated_at  DATETIME NOT NULL,
    finished_at DATETIME,
    fence       INTEGER NOT NULL,
    lease_until DATETIME NOT NULL,
    failures    INTEGER NOT NULL,
    checkpoint  BLOB, -- encrypted; null before the first chunk and once it has come to its end
    interrupted BOOLEAN NOT NULL, -- its worker must look again at holds, pauses and stops
    version     INTEGER NOT NULL
);
-- One sweep of a rule at a time, across all workers.
CREATE UNIQUE INDEX sweeps_open ON sweeps (rule) WHERE finished_at IS NULL;
CREATE INDEX sweeps_rule ON sweeps (rule, id);
CREATE INDEX sweeps_lease ON sweeps (lease_until) WHERE state = 'running';
CREATE INDEX sweeps_finished ON sweeps (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE sweep_tallies (
    sweep    TEXT NOT NULL REFERENCES sweeps (id) ON DELETE CASCADE,
    entity   TEXT NOT NULL,
    method   TEXT NOT NULL,
    resolved BOOLEAN NOT NULL,
    rows     INTEGER NOT NULL,
    PRIMARY KEY (sweep, entity, method, resolved)
);

-- What a person, or the engine itself, has stopped: a row while it is stopped.
CREATE TABLE stops (
    name       TEXT NOT NULL PRIMARY KEY,
    stopped_by TEXT NOT NULL,
    stopped_at DATETIME NOT NULL,
    reason     TEXT NOT NULL
);

-- +goose Down

DROP TABLE stops;
DROP TABLE sweep_tallies;
DROP TABLE sweeps;
DROP TABLE rule_states;
DROP TABLE hold_identifiers;
DROP TABLE holds;
