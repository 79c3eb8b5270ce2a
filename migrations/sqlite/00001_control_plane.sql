-- +goose Up

CREATE TABLE data_maps (
    version INTEGER PRIMARY KEY,
    hash    TEXT NOT NULL,
    yaml    BLOB NOT NULL,
    at      DATETIME NOT NULL
);

CREATE TABLE requests (
    id            TEXT NOT NULL PRIMARY KEY,
    kind          TEXT NOT NULL,
    state         TEXT NOT NULL,
    tenant        TEXT NOT NULL,
    scope         TEXT NOT NULL,
    filed_by      TEXT NOT NULL,
    subject       TEXT NOT NULL,
    ground        TEXT NOT NULL,
    map_version   INTEGER NOT NULL,
    plan_hash     TEXT NOT NULL,
    approved_hash TEXT NOT NULL,
    approved_by   TEXT NOT NULL,
    round         INTEGER NOT NULL,
    zone          TEXT NOT NULL, -- IANA name; the three dates below are midnights in it
    received      DATETIME NOT NULL,
    due_unpaused  DATETIME NOT NULL,
    due           DATETIME NOT NULL,
    extended      BOOLEAN NOT NULL,
    pauses        TEXT NOT NULL,
    article       TEXT NOT NULL,
    reason        TEXT NOT NULL,
    hint          TEXT NOT NULL,
    defer_to      DATETIME,
    duplicate     TEXT NOT NULL,
    version       INTEGER NOT NULL,
    created_at    DATETIME NOT NULL,
    updated_at    DATETIME NOT NULL,
    closed_at     DATETIME
);
CREATE INDEX requests_due ON requests (due, id);
CREATE INDEX requests_state_due ON requests (state, due, id);
CREATE INDEX requests_tenant_due ON requests (tenant, due, id) WHERE tenant <> '';
CREATE INDEX requests_filed_by_due ON requests (filed_by, due, id);
CREATE INDEX requests_kind_created ON requests (kind, created_at);
CREATE INDEX requests_open ON requests (kind, state, due) WHERE closed_at IS NULL;
CREATE INDEX requests_closed ON requests (closed_at) WHERE closed_at IS NOT NULL;

CREATE TABLE identifiers (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    request    TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    origin     TEXT NOT NULL,
    source     TEXT NOT NULL,
    ciphertext BLOB, -- null once forgotten
    key_id     TEXT NOT NULL,
    commitment TEXT NOT NULL,
    UNIQUE (request, name, commitment)
);
CREATE INDEX identifiers_commitment ON identifiers (commitment);

CREATE TABLE data_keys (
    request TEXT NOT NULL PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    wrapped BLOB NOT NULL
);

CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    request    TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    at         DATETIME NOT NULL,
    actor      TEXT NOT NULL,
    type       TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    detail     TEXT
);
CREATE INDEX events_request ON events (request, id);

CREATE TABLE plans (
    request TEXT NOT NULL PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    hash    TEXT NOT NULL,
    plan    TEXT NOT NULL
);

CREATE TABLE tasks (
    id         TEXT NOT NULL PRIMARY KEY,
    request    TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    system     TEXT NOT NULL,
    phase      TEXT NOT NULL,
    state      TEXT NOT NULL,
    run        TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    reason     TEXT NOT NULL,
    hint       TEXT NOT NULL,
    receipt    TEXT,
    residue    TEXT,
    not_before DATETIME NOT NULL,
    updated    DATETIME NOT NULL,
    UNIQUE (request, system)
);
CREATE INDEX tasks_pending ON tasks (system, phase, not_before, id) WHERE state = 'pending';
CREATE INDEX tasks_run ON tasks (run) WHERE run <> '';
CREATE INDEX tasks_open ON tasks (state, system) WHERE state <> 'done' AND state <> 'cancelled';

CREATE TABLE runs (
    id          TEXT NOT NULL PRIMARY KEY,
    system      TEXT NOT NULL,
    phase       TEXT NOT NULL,
    map_version INTEGER NOT NULL,
    fence       INTEGER NOT NULL,
    lease_until DATETIME NOT NULL,
    checkpoint  BLOB, -- encrypted; null before the first chunk and once done
    done        BOOLEAN NOT NULL
);
CREATE INDEX runs_lease ON runs (lease_until) WHERE NOT done;

CREATE TABLE tallies (
    task     TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    entity   TEXT NOT NULL,
    method   TEXT NOT NULL,
    resolved BOOLEAN NOT NULL,
    rows     INTEGER NOT NULL,
    PRIMARY KEY (task, entity, method, resolved)
);

CREATE TABLE spool (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    task   TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    entity TEXT NOT NULL,
    page   BLOB NOT NULL -- encrypted
);
CREATE INDEX spool_task ON spool (task, entity, id);

-- Leaves outlive their Requests and are never deleted: they hold no identifier.
CREATE TABLE leaves (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    at   DATETIME NOT NULL,
    leaf TEXT NOT NULL, -- canonical JSON, byte for byte what will be hashed
    salt BLOB NOT NULL
);

-- Suppressions outlive their Requests: they are needed until the last backup that may hold the data has expired.
CREATE TABLE suppressions (
    request    TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    name       TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    commitment TEXT NOT NULL,
    systems    TEXT, -- null is all
    erased_at  DATETIME NOT NULL,
    expires    DATETIME NOT NULL,
    PRIMARY KEY (request, name, commitment)
);
CREATE INDEX suppressions_commitment ON suppressions (commitment);
CREATE INDEX suppressions_expires ON suppressions (expires);

CREATE TABLE packages (
    request    TEXT NOT NULL PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    path       TEXT NOT NULL,
    size       INTEGER NOT NULL,
    records    INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    data_key   BLOB NOT NULL,
    created_at DATETIME NOT NULL,
    expires    DATETIME NOT NULL,
    removed_at DATETIME
);
CREATE INDEX packages_expires ON packages (expires) WHERE removed_at IS NULL;

CREATE TABLE links (
    token_hash TEXT NOT NULL PRIMARY KEY,
    request    TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    expires    DATETIME NOT NULL,
    used_at    DATETIME
);
CREATE INDEX links_request ON links (request);
CREATE INDEX links_expires ON links (expires);

CREATE TABLE schedules (
    name     TEXT NOT NULL PRIMARY KEY,
    last_run DATETIME NOT NULL
);

-- A principal is a person or a system; two keys of a person are one person for four eyes.
CREATE TABLE principals (
    id         TEXT NOT NULL PRIMARY KEY,
    system     BOOLEAN NOT NULL,
    created_at DATETIME NOT NULL
);

-- Keys are never deleted: events and leaves name the principals behind them.
CREATE TABLE api_keys (
    id         TEXT NOT NULL PRIMARY KEY, -- the public half of the token
    hash       BLOB NOT NULL, -- SHA-256 of the secret half
    principal  TEXT NOT NULL REFERENCES principals (id),
    label      TEXT NOT NULL,
    roles      TEXT,
    tenants    TEXT, -- null is every tenant
    created_by TEXT NOT NULL,
    created_at DATETIME NOT NULL,
    expires_at DATETIME,
    revoked_at DATETIME,
    last_used  DATETIME
);
CREATE INDEX api_keys_principal ON api_keys (principal);

CREATE TABLE auth_failures (
    subject      TEXT NOT NULL PRIMARY KEY, -- a key or an address
    count        INTEGER NOT NULL,
    since        DATETIME NOT NULL,
    locked_until DATETIME
);
CREATE INDEX auth_failures_since ON auth_failures (since);

CREATE TABLE idempotency (
    key         TEXT NOT NULL PRIMARY KEY, -- a keyed hash
    fingerprint TEXT NOT NULL, -- of the request's body
    answer      BLOB, -- null while the first request is in flight
    expires     DATETIME NOT NULL
);
CREATE INDEX idempotency_expires ON idempotency (expires);

-- +goose Down
DROP TABLE idempotency;
DROP TABLE auth_failures;
DROP TABLE api_keys;
DROP TABLE principals;
DROP TABLE schedules;
DROP TABLE links;
DROP TABLE packages;
DROP TABLE suppressions;
DROP TABLE leaves;
DROP TABLE spool;
DROP TABLE tallies;
DROP TABLE runs;
DROP TABLE tasks;
DROP TABLE plans;
DROP TABLE events;
DROP TABLE data_keys;
DROP TABLE identifiers;
DROP TABLE requests;
DROP TABLE data_maps;
