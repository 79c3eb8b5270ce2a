-- +goose Up

CREATE TABLE data_maps (
    version integer PRIMARY KEY,
    hash    text        NOT NULL,
    yaml    bytea       NOT NULL,
    at      timestamptz NOT NULL
);

CREATE TABLE requests (
    id            text PRIMARY KEY,
    kind          text        NOT NULL,
    state         text        NOT NULL,
    tenant        text        NOT NULL,
    scope         jsonb       NOT NULL,
    filed_by      text        NOT NULL,
    subject       text        NOT NULL,
    ground        text        NOT NULL,
    map_version   integer     NOT NULL,
    plan_hash     text        NOT NULL,
    approved_hash text        NOT NULL,
    approved_by   text        NOT NULL,
    round         integer     NOT NULL,
    zone          text        NOT NULL, -- IANA name; the three dates below are midnights in it
    received      timestamptz NOT NULL,
    due_unpaused  timestamptz NOT NULL,
    due           timestamptz NOT NULL,
    extended      boolean     NOT NULL,
    pauses        jsonb       NOT NULL,
    article       text        NOT NULL,
    reason        text        NOT NULL,
    hint          text        NOT NULL,
    defer_to      timestamptz,
    duplicate     text        NOT NULL,
    version       bigint      NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    closed_at     timestamptz
);
CREATE INDEX requests_due ON requests (due, id);
CREATE INDEX requests_state_due ON requests (state, due, id);
CREATE INDEX requests_tenant_due ON requests (tenant, due, id) WHERE tenant <> '';
CREATE INDEX requests_filed_by_due ON requests (filed_by, due, id);
CREATE INDEX requests_kind_created ON requests (kind, created_at);
CREATE INDEX requests_open ON requests (kind, state, due) WHERE closed_at IS NULL;
CREATE INDEX requests_closed ON requests (closed_at) WHERE closed_at IS NOT NULL;

CREATE TABLE identifiers (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    request    text NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    name       text NOT NULL,
    origin     text NOT NULL,
    source     text NOT NULL,
    ciphertext bytea, -- null once forgotten
    key_id     text NOT NULL,
    commitment text NOT NULL,
    PRIMARY KEY (request, name, commitment)
);
CREATE INDEX identifiers_commitment ON identifiers (commitment);

CREATE TABLE data_keys (
    request text PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    wrapped bytea NOT NULL
);

CREATE TABLE events (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    request    text        NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    at         timestamptz NOT NULL,
    actor      text        NOT NULL,
    type       text        NOT NULL,
    from_state text        NOT NULL,
    to_state   text        NOT NULL,
    detail     jsonb,
    PRIMARY KEY (request, id)
);

CREATE TABLE plans (
    request text PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    hash    text  NOT NULL,
    plan    jsonb NOT NULL
);

CREATE TABLE tasks (
    id         text PRIMARY KEY,
    request    text        NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    system     text        NOT NULL,
    phase      text        NOT NULL,
    state      text        NOT NULL,
    run        text        NOT NULL,
    attempt    integer     NOT NULL,
    reason     text        NOT NULL,
    hint       text        NOT NULL,
    receipt    jsonb,
    residue    jsonb,
    not_before timestamptz NOT NULL,
    updated    timestamptz NOT NULL,
    UNIQUE (request, system)
);
CREATE INDEX tasks_pending ON tasks (system, phase, not_before, id) WHERE state = 'pending';
CREATE INDEX tasks_run ON tasks (run) WHERE run <> '';
CREATE INDEX tasks_open ON tasks (state, system) WHERE state <> 'done' AND state <> 'cancelled';

CREATE TABLE runs (
    id          text PRIMARY KEY,
    system      text        NOT NULL,
    phase       text        NOT NULL,
    map_version integer     NOT NULL,
    fence       bigint      NOT NULL,
    lease_until timestamptz NOT NULL,
    checkpoint  bytea, -- encrypted; null before the first chunk and once done
    done        boolean     NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX runs_lease ON runs (lease_until) WHERE NOT done;

CREATE TABLE tallies (
    task     text    NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    entity   text    NOT NULL,
    method   text    NOT NULL,
    resolved boolean NOT NULL,
    rows     bigint  NOT NULL,
    PRIMARY KEY (task, entity, method, resolved)
);

CREATE TABLE spool (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task   text  NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    entity text  NOT NULL,
    page   bytea NOT NULL -- encrypted
);
CREATE INDEX spool_task ON spool (task, entity, id);

-- Leaves outlive their Requests and are never deleted: they hold no identifier.
CREATE TABLE leaves (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at   timestamptz NOT NULL,
    leaf text        NOT NULL, -- canonical JSON, byte for byte what will be hashed
    salt bytea       NOT NULL
);

-- Suppressions outlive their Requests: they are needed until the last backup that may hold the data has expired.
CREATE TABLE suppressions (
    request    text        NOT NULL,
    tenant     text        NOT NULL,
    name       text        NOT NULL,
    key_id     text        NOT NULL,
    commitment text        NOT NULL,
    systems    jsonb, -- null is all
    erased_at  timestamptz NOT NULL,
    expires    timestamptz NOT NULL,
    PRIMARY KEY (request, name, commitment)
);
CREATE INDEX suppressions_commitment ON suppressions (commitment);
CREATE INDEX suppressions_expires ON suppressions (expires);

CREATE TABLE packages (
    request    text PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    path       text        NOT NULL,
    size       bigint      NOT NULL,
    records    bigint      NOT NULL,
    sha256     text        NOT NULL,
    data_key   bytea       NOT NULL,
    created_at timestamptz NOT NULL,
    expires    timestamptz NOT NULL,
    removed_at timestamptz
);
CREATE INDEX packages_expires ON packages (expires) WHERE removed_at IS NULL;

CREATE TABLE links (
    token_hash text PRIMARY KEY,
    request    text        NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    expires    timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX links_request ON links (request);
CREATE INDEX links_expires ON links (expires);

CREATE TABLE schedules (
    name     text PRIMARY KEY,
    last_run timestamptz NOT NULL
);

-- A principal is a person or a system; two keys of a person are one person for four eyes.
CREATE TABLE principals (
    id         text PRIMARY KEY,
    system     boolean     NOT NULL,
    created_at timestamptz NOT NULL
);

-- Keys are never deleted: events and leaves name the principals behind them.
CREATE TABLE api_keys (
    id         text PRIMARY KEY, -- the public half of the token
    hash       bytea       NOT NULL, -- SHA-256 of the secret half
    principal  text        NOT NULL REFERENCES principals (id),
    label      text        NOT NULL,
    roles      jsonb,
    tenants    jsonb, -- null is every tenant
    created_by text        NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used  timestamptz
);
CREATE INDEX api_keys_principal ON api_keys (principal);

CREATE TABLE auth_failures (
    subject      text PRIMARY KEY, -- a key or an address
    count        integer     NOT NULL,
    since        timestamptz NOT NULL,
    locked_until timestamptz
);
CREATE INDEX auth_failures_since ON auth_failures (since);

CREATE TABLE idempotency (
    key         text PRIMARY KEY, -- a keyed hash
    fingerprint text        NOT NULL, -- of the request's body
    answer      bytea, -- null while the first request is in flight
    expires     timestamptz NOT NULL
);
CREATE INDEX idempotency_expires ON idempotency (expires);

-- +goose Down
DROP TABLE idempotency, auth_failures, api_keys, principals, schedules, links, packages, suppressions, leaves, spool,
    tallies, runs, tasks, plans, events, data_keys, identifiers, requests, data_maps;
