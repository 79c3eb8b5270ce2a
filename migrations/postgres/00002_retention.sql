-- +goose Up

-- A hold on a subject has a data key while it lasts; a hold on an entity has none.
CREATE TABLE holds (
    id          text PRIMARY KEY,
    restriction boolean     NOT NULL,
    tenant      text        NOT NULL,
    system      text        NOT NULL,
    entity      text        NOT NULL,
    conditions  jsonb,
    reference   text        NOT NULL,
    request     text        NOT NULL, -- the restriction request that it follows from; outlives it
    review      timestamptz,
    placed_by   text        NOT NULL,
    lifted_by   text        NOT NULL,
    created_at  timestamptz NOT NULL,
    lifted_at   timestamptz,
    data_key    bytea,
    version     bigint      NOT NULL
);
CREATE INDEX holds_created ON holds (id) WHERE lifted_at IS NULL;
CREATE INDEX holds_review ON holds (review) WHERE lifted_at IS NULL;
CREATE INDEX holds_lifted ON holds (lifted_at) WHERE lifted_at IS NOT NULL;

CREATE TABLE hold_identifiers (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    hold       text NOT NULL REFERENCES holds (id) ON DELETE CASCADE,
    name       text NOT NULL,
    origin     text NOT NULL,
    source     text NOT NULL,
    ciphertext bytea, -- null once forgotten, and of further commitments to the same value
    key_id     text NOT NULL,
    commitment text NOT NULL,
    PRIMARY KEY (hold, name, commitment)
);
CREATE INDEX hold_identifiers_commitment ON hold_identifiers (commitment);

-- What Lethe remembers of a deletion rule between its sweeps.
CREATE TABLE rule_states (
    rule          text PRIMARY KEY,
    approved_hash text   NOT NULL,
    approved_by   text   NOT NULL,
    approved_at   timestamptz,
    paused_by     text   NOT NULL,
    paused_at     timestamptz,
    counted       timestamptz,
    due           bigint NOT NULL,
    held          bigint NOT NULL,
    blocked       bigint NOT NULL,
    backlog       bigint NOT NULL,
    last_success  timestamptz
);

CREATE TABLE sweeps (
    id          text PRIMARY KEY,
    rule        text        NOT NULL,
    system      text        NOT NULL,
    entity      text        NOT NULL,
    action      text        NOT NULL,
    rule_hash   text        NOT NULL,
    map_version integer     NOT NULL,
    state       text        NOT NULL,
    started_by  text        NOT NULL,
    at_once     boolean     NOT NULL,
    cut_off     timestamptz NOT NULL,
    due         bigint,
    held        bigint      NOT NULL,
    blocked     bigint      NOT NULL,
    total       bigint      NOT NULL,
    blocked_by  jsonb,
    approved_by text        NOT NULL,
    approved    bigint      NOT NULL,
    remaining   bigint,
    measures    jsonb       NOT NULL,
    reason      text        NOT NULL,
    hint        text        NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    finished_at timestamptz,
    fence       bigint      NOT NULL,
    lease_until timestamptz NOT NULL,
    failures    integer     NOT NULL,
    checkpoint  bytea, -- encrypted; null before the first chunk and once it has come to its end
    interrupted boolean     NOT NULL, -- its worker must look again at holds, pauses and stops
    version     bigint      NOT NULL
) WITH (fillfactor = 70);
-- One sweep of a rule at a time, across all workers.
CREATE UNIQUE INDEX sweeps_open ON sweeps (rule) WHERE finished_at IS NULL;
CREATE INDEX sweeps_rule ON sweeps (rule, id);
CREATE INDEX sweeps_lease ON sweeps (lease_until) WHERE state = 'running';
CREATE INDEX sweeps_finished ON sweeps (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE sweep_tallies (
    sweep    text    NOT NULL REFERENCES sweeps (id) ON DELETE CASCADE,
    entity   text    NOT NULL,
    method   text    NOT NULL,
    resolved boolean NOT NULL,
    rows     bigint  NOT NULL,
    PRIMARY KEY (sweep, entity, method, resolved)
);

-- What a person, or the engine itself, has stopped: a row while it is stopped.
CREATE TABLE stops (
    name       text PRIMARY KEY,
    stopped_by text        NOT NULL,
    stopped_at timestamptz NOT NULL,
    reason     text        NOT NULL
);

-- +goose Down
DROP TABLE stops, sweep_tallies, sweeps, rule_states, hold_identifiers, holds;
