-- +goose Up

-- Why it is not known yet what else the subject of a hold is called; empty once it is.
ALTER TABLE holds ADD COLUMN unlearned text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE holds DROP COLUMN unlearned;
